//! Files are made here, by webrtc-rs's writers and, of Matroska, by hand.

use std::io::{Cursor, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rtc_media::io::Writer;
use rtc_media::io::ivf_reader::IVFFileHeader;
use rtc_media::io::ivf_writer::IVFWriter;
use rtc_media::io::ogg_writer::OggWriter;
use rtc_rtp::header::Header;
use rtc_rtp::packet::Packet;

use super::*;

const KEY: [u8; 3] = [0x10, 0x02, 0x00];
const DELTA: [u8; 3] = [0x11, 0x02, 0x00];
/// An Opus packet of 20 ms.
const OPUS: [u8; 5] = [0xfc, 1, 2, 3, 4];
const SPS: [u8; 4] = [0x67, 0x42, 0xc0, 0x1f];
const PPS: [u8; 3] = [0x68, 0xce, 0x38];
const IDR: [u8; 4] = [0x65, 0x88, 1, 2];
const SLICE: [u8; 3] = [0x41, 0x9a, 3];

fn ivf_header(four_cc: &[u8; 4]) -> IVFFileHeader {
    IVFFileHeader {
        signature: *b"DKIF",
        header_size: 32,
        four_cc: *four_cc,
        timebase_denominator: 30,
        timebase_numerator: 1,
        ..IVFFileHeader::default()
    }
}

/// At 30 frames a second.
fn ivf(frames: &[&[u8]]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut writer = IVFWriter::new(&mut file, &ivf_header(b"VP80")).unwrap();
    for frame in frames {
        let header = Header { marker: true, ..Header::default() };
        let payload = [&[0x10], *frame].concat().into();
        writer.write_rtp(&Packet { header, payload }).unwrap();
    }
    writer.close().unwrap();
    file.into_inner()
}

fn ivf_of_h264(frames: &[&[u8]]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    IVFWriter::new(&mut file, &ivf_header(b"H264")).unwrap();
    for (index, frame) in frames.iter().enumerate() {
        file.write_all(&(frame.len() as u32).to_le_bytes()).unwrap();
        file.write_all(&(index as u64).to_le_bytes()).unwrap();
        file.write_all(frame).unwrap();
    }
    file.into_inner()
}

fn ogg(packets: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = OggWriter::new(&mut file, 48_000, 2).unwrap();
    for index in 0..packets {
        let header = Header { timestamp: index * 960, ..Header::default() };
        writer.write_rtp(&Packet { header, payload: OPUS.to_vec().into() }).unwrap();
    }
    file
}

/// An EBML element: id, length in eight bytes, contents.
fn element(id: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut length = (contents.len() as u64).to_be_bytes();
    length[0] = 0x01;
    [id, &length, contents].concat()
}

/// Matroska with tracks (number, type, codec, private data) and blocks (track, milliseconds, contents).
fn matroska(tracks: &[(u8, u8, &str, &[u8])], blocks: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let header = [element(&[0x42, 0x82], b"webm"), element(&[0x42, 0x87], &[4]), element(&[0x42, 0x85], &[2])].concat();
    let info = [element(&[0x4d, 0x80], b"test"), element(&[0x57, 0x41], b"test")].concat();
    let entries = tracks.iter().flat_map(|&(number, kind, codec, private)| {
        let mut entry = [
            element(&[0xd7], &[number]),
            element(&[0x73, 0xc5], &[number]),
            element(&[0x83], &[kind]),
            element(&[0x86], codec.as_bytes()),
        ]
        .concat();
        if !private.is_empty() {
            entry.extend(element(&[0x63, 0xa2], private));
        }
        element(&[0xae], &entry)
    });
    let blocks = blocks.iter().flat_map(|&(track, ms, contents)| {
        element(&[0xa3], &[&[0x80 | track], &ms.to_be_bytes()[..], &[0], contents].concat())
    });
    let cluster: Vec<u8> = element(&[0xe7], &[0]).into_iter().chain(blocks).collect();
    let segment = [
        element(&[0x15, 0x49, 0xa9, 0x66], &info),
        element(&[0x16, 0x54, 0xae, 0x6b], &entries.collect::<Vec<u8>>()),
        element(&[0x1f, 0x43, 0xb6, 0x75], &cluster),
    ]
    .concat();
    [element(&[0x1a, 0x45, 0xdf, 0xa3], &header), element(&[0x18, 0x53, 0x80, 0x67], &segment)].concat()
}

fn avc_configuration() -> Vec<u8> {
    let mut record = vec![1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, SPS.len() as u8];
    record.extend(SPS);
    record.extend([1, 0, PPS.len() as u8]);
    record.extend(PPS);
    record
}

fn avc(unit: &[u8]) -> Vec<u8> {
    [&(unit.len() as u32).to_be_bytes(), unit].concat()
}

fn webm() -> Vec<u8> {
    let (key, slice) = (avc(&IDR), avc(&SLICE));
    matroska(
        &[(1, 1, "V_VP8", &[]), (2, 2, "A_OPUS", b"OpusHead"), (3, 1, "V_MPEG4/ISO/AVC", &avc_configuration())],
        &[
            (1, 0, &KEY),
            (2, 0, &OPUS),
            (3, 0, &key),
            (2, 21, &OPUS),
            (1, 33, &DELTA),
            (3, 40, &slice),
            (2, 40, &OPUS),
            (1, 67, &DELTA),
            (2, 460, &OPUS),
        ],
    )
}

fn parse(contents: Vec<u8>, codec: Codec) -> Result<MediaFile, ContentProblem> {
    MediaFile::parse(contents.into(), codec)
}

/// Milliseconds, key frames and parts.
fn frames(file: &MediaFile) -> Vec<(u128, bool, Vec<&[u8]>)> {
    file.frames
        .iter()
        .map(|frame| (frame.at.as_millis(), frame.key, frame.parts.iter().map(|part| &part[..]).collect()))
        .collect()
}

#[test]
fn ivf_holds_vp8_and_h264() {
    // What precedes the first key frame is of no use; webrtc-rs's writer leaves it out too.
    let file = parse(ivf(&[&KEY, &DELTA, &DELTA, &KEY]), Codec::Vp8).unwrap();
    let expected: Vec<(u128, bool, Vec<&[u8]>)> =
        vec![(0, true, vec![&KEY]), (33, false, vec![&DELTA]), (66, false, vec![&DELTA]), (100, true, vec![&KEY])];
    assert_eq!(frames(&file), expected);
    assert_eq!(file.duration().as_millis(), 133);

    let start = [0, 0, 0, 1];
    let key = [&start, &SPS[..], &start, &PPS[..], &start[1..], &IDR[..]].concat();
    let slice = [&start, &SLICE[..]].concat();
    let file = parse(ivf_of_h264(&[&slice, &key, &slice]), Codec::H264).unwrap();
    let expected: Vec<(u128, bool, Vec<&[u8]>)> = vec![(0, true, vec![&SPS, &PPS, &IDR]), (33, false, vec![&SLICE])];
    assert_eq!(frames(&file), expected);
}

#[test]
fn ogg_holds_opus() {
    let file = parse(ogg(50), Codec::Opus).unwrap();
    assert_eq!((file.frames.len(), file.duration()), (50, Duration::from_secs(1)));
    assert!(file.frames.iter().all(|frame| frame.parts == [&OPUS[..]]));
    assert_eq!(file.bits_per_second(), 2000.0);
}

#[test]
fn webm_holds_them_all() {
    let file = parse(webm(), Codec::Vp8).unwrap();
    let expected: Vec<(u128, bool, Vec<&[u8]>)> =
        vec![(0, true, vec![&KEY]), (33, false, vec![&DELTA]), (67, false, vec![&DELTA])];
    assert_eq!(frames(&file), expected);
    let file = parse(webm(), Codec::H264).unwrap();
    let expected: Vec<(u128, bool, Vec<&[u8]>)> = vec![(0, true, vec![&SPS, &PPS, &IDR]), (40, false, vec![&SLICE])];
    assert_eq!(frames(&file), expected);
    // Whole milliseconds are no gaps, a pause is one.
    let file = parse(webm(), Codec::Opus).unwrap();
    assert_eq!(frames(&file).iter().map(|frame| frame.0).collect::<Vec<_>>(), [0, 20, 40, 460]);
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let cases = [
        (b"RIFF....".to_vec(), Codec::Vp8, "neither IVF, Ogg nor WebM (Matroska)"),
        (ivf(&[&KEY]), Codec::H264, "has no video/H264, but VP80"),
        (ivf(&[&KEY, &DELTA])[..60].to_vec(), Codec::Vp8, "broken IVF: the file is cut short"),
        (ivf(&[&KEY]), Codec::Vp8, "has no duration"),
        (ivf_of_h264(&[&[0, 0, 1, 0x41, 1]]), Codec::H264, "has no key frame"),
        (ogg(5), Codec::Vp8, "has no video/VP8, but Ogg's audio"),
        (ogg(5)[..60].to_vec(), Codec::Opus, "has no key frame"),
        (b"OggS????".to_vec(), Codec::Opus, "broken Ogg: "),
        (webm()[..40].to_vec(), Codec::Vp8, "broken WebM: "),
        (matroska(&[(1, 1, "V_VP9", &[])], &[]), Codec::Vp8, "has no video/VP8, but V_VP9"),
        (
            matroska(&[(1, 1, "V_VP8", &[])], &[(1, 40, &KEY), (1, 0, &DELTA)]),
            Codec::Vp8,
            "has frames out of the order of time (B-frames?)",
        ),
    ];
    for (contents, codec, expected) in cases {
        let problem = parse(contents, codec).unwrap_err().to_string();
        println!("{problem}");
        assert!(problem.starts_with(expected) && !problem.contains('\n'), "{problem}");
    }
    let missing = MediaFile::read(Path::new("no/such/file.ivf"), Codec::Vp8).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.ivf: No such file"), "{missing}");
}

#[test]
fn a_file_goes_on_and_jumps_to_key_frames() {
    let file = Arc::new(parse(ivf(&[&KEY, &DELTA, &DELTA, &KEY, &DELTA]), Codec::Vp8).unwrap());
    let start = crate::clock::tests::instant();
    let mut player = Player::new(start, file);
    let mut take = |wanted: bool| {
        if wanted {
            player.want_key_frame();
        }
        let at = player.next() - start + Duration::from_micros(500);
        (at.as_millis(), player.take().0)
    };
    let taken = [false, false, true, false, false, true, true, false].map(&mut take);
    assert_eq!(
        taken,
        [(0, true), (33, false), (67, true), (100, false), (133, true), (167, true), (200, true), (233, false)]
    );
}

fn any_file() -> impl Strategy<Value = (Vec<u8>, Codec)> {
    prop_oneof![
        Just((ivf(&[&KEY, &DELTA, &DELTA, &KEY]), Codec::Vp8)),
        Just((ogg(10), Codec::Opus)),
        Just((webm(), Codec::Vp8)),
        Just((webm(), Codec::Opus)),
        Just((webm(), Codec::H264)),
    ]
}

proptest! {
    #[test]
    fn broken_files_are_survived((mut contents, codec) in any_file(), len in 0.0..1.0_f64,
            changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..8)) {
        for (at, byte) in changes {
            let index = (contents.len() as f64 * at) as usize;
            contents[index] = byte;
        }
        if len < 0.9 {
            contents.truncate((contents.len() as f64 * len) as usize);
        }
        if let Ok(file) = parse(contents, codec) {
            prop_assert!(!file.duration().is_zero() && file.frames[0].key);
        }
    }
}

//! Datagrams on a connection.

use sluice_media::wire::framing::{Frames, LENGTH_LEN, MAX_FRAME_LEN, MIN_FRAME_LEN, write_frame};

use crate::reader::Reader;

/// The bytes are where a stream is cut, and the stream.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let at = usize::from(reader.u16());
    let stream = reader.rest();
    let (whole, malformed) = read(&[stream]);
    let (first, second) = stream.split_at(at.min(stream.len()));
    assert_eq!(read(&[first, second]), (whole.clone(), malformed), "wherever it is cut");
    let mut written = Vec::new();
    for frame in &whole {
        assert!((MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&frame.len()));
        write_frame(frame, &mut written);
    }
    assert!(stream.starts_with(&written));
}

/// The frames of a stream that comes in pieces, and whether it is none from there on.
fn read(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut read, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut bytes = [&rest, *piece].concat();
        let mut frames = Frames::new(&mut bytes);
        read.extend(frames.by_ref().map(|frame| frame.to_vec()));
        match frames.finish() {
            Ok(left) => rest = left.to_vec(),
            Err(_) => return (read, true),
        }
        assert!(rest.len() < LENGTH_LEN + MAX_FRAME_LEN);
    }
    (read, false)
}

/// Two frames and the beginning of a third, cut in each part, and frames that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    [12, 100, 300].into_iter().for_each(|len| write_frame(&vec![0x80; len], &mut stream));
    stream.truncate(200);
    let cut = |at: u16, stream: &[u8]| [&at.to_be_bytes(), stream].concat();
    let mut seeds: Vec<_> = [0, 1, 8, 14, 15, 60, 117].map(|at| cut(at, &stream)).into();
    for len in [0, 11, 2_049] {
        let mut stream = stream[..14].to_vec();
        write_frame(&vec![7; len], &mut stream);
        seeds.push(cut(15, &stream));
    }
    seeds
}

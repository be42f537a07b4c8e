//! VP8 payload descriptors, and frames left out of a stream.

use sluice_media::wire::codec::{Codec, PictureNumbers, Vp8Descriptor};

use crate::reader::Reader;

/// The bytes are a number of frames left out and a payload.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let by = reader.u16();
    let payload = reader.rest();
    let before = Vp8Descriptor::parse(payload);
    let info = Codec::Vp8.inspect(payload);
    let Some(descriptor) = before else {
        return assert!(!info.key_frame_start && !info.frame_start && info.temporal_layer == 0);
    };
    assert!(descriptor.len < payload.len(), "a descriptor alone says nothing");
    assert!(descriptor.frame_start || !descriptor.key_frame_start);
    assert_eq!((info.key_frame_start, info.frame_start), (descriptor.key_frame_start, descriptor.frame_start));
    assert_eq!((info.temporal_layer, info.switches_up != 0), (descriptor.temporal_layer, descriptor.layer_sync));
    let mut shifted = payload.to_vec();
    let numbers = |picture| PictureNumbers { picture, base_layer: 0 };
    Codec::Vp8.lessen_picture_numbers(&mut shifted, numbers(by));
    if let Some(id) = descriptor.pictures.picture_id {
        let len = if id.long { 2 } else { 1 };
        assert!(id.offset + len <= descriptor.len);
        let untouched = |payload: &[u8]| [&payload[..id.offset], &payload[id.offset + len..]].concat();
        assert_eq!(untouched(payload), untouched(&shifted));
        let moved = Vp8Descriptor::parse(&shifted).and_then(|descriptor| descriptor.pictures.picture_id);
        let mask = if id.long { 0x7fff } else { 0x7f };
        assert_eq!(moved.map(|moved| (moved.value, moved.long)), Some((id.value.wrapping_sub(by) & mask, id.long)));
    }
    Codec::Vp8.lessen_picture_numbers(&mut shifted, numbers(by.wrapping_neg()));
    assert_eq!(shifted, payload);
}

/// Descriptors of browsers: with layers, long and short picture ids, and none.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 3, 0x90, 0xf0, 0x92, 0x34, 9, 0xa0, 0x50, 0x11],
        vec![0, 1, 0x90, 0x80, 0x11, 0x51, 2],
        vec![0xff, 0xff, 0x80, 0xe0, 0xff, 0xff, 7, 0x40, 0, 1],
        vec![0, 0, 0x10, 0x50, 1],
        vec![0, 0, 0x01, 0x51, 1],
    ]
}

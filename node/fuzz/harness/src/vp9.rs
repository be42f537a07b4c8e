//! VP9 payload descriptors, and streams that go on with another one.

use sluice_media::wire::codec::{Codec, PictureNumbers, Vp9Descriptor};

use crate::reader::Reader;

/// The bytes are what is taken off the numbers, and a payload.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let by = PictureNumbers { picture: reader.u16(), base_layer: reader.u8() };
    let payload = reader.rest();
    let info = Codec::Vp9.inspect(payload);
    let Some(descriptor) = Vp9Descriptor::parse(payload) else {
        return assert!(!info.key_frame_start && !info.frame_start && info.temporal_layer == 0);
    };
    assert!(descriptor.len < payload.len(), "a descriptor alone says nothing");
    assert!(descriptor.spatial_layer < 8 && descriptor.temporal_layer < 8);
    assert!(!info.key_frame_start || (info.frame_start && info.spatial_layer == 0));
    assert_eq!(Codec::Vp9.picture_numbers(payload).is_some(), descriptor.pictures.picture_id.is_some());
    let mut shifted = payload.to_vec();
    Codec::Vp9.lessen_picture_numbers(&mut shifted, by);
    let moved = Vp9Descriptor::parse(&shifted).expect("its form is the same");
    assert_eq!((moved.len, moved.spatial_layer), (descriptor.len, descriptor.spatial_layer));
    let back = PictureNumbers { picture: by.picture.wrapping_neg(), base_layer: by.base_layer.wrapping_neg() };
    Codec::Vp9.lessen_picture_numbers(&mut shifted, back);
    assert_eq!(shifted, payload);
}

/// A key picture with its structure, flexible mode, and a descriptor of one byte.
pub fn seeds() -> Vec<Vec<u8>> {
    let structure = [0xaa, 0x92, 0x34, 0, 7, 0x58, 0, 160, 0, 90, 1, 64, 0, 180, 2, 128, 1, 104, 2, 4, 1, 0x30, 0xaa];
    vec![
        [&[0, 3, 1][..], &structure].concat(),
        vec![0, 1, 0, 0xf5, 0x05, 0x53, 0x03, 0x08, 0xaa],
        vec![0xff, 0xff, 0xff, 0xe8, 0xff, 0xff, 0x16, 9, 1],
        vec![0, 0, 0, 0x08, 1],
    ]
}

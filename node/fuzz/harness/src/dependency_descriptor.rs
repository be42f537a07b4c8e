//! Dependency descriptors: what is read of one is the same when it says which decode targets still come.

use sluice_media::wire::codec::PayloadInfo;
use sluice_media::wire::rtp::{DependencyDescriptor, MAX_DESCRIPTOR_LEN, TemplateStructure, lessen_frame_number};

use crate::reader::Reader;

/// The bytes are descriptors of one stream, each after its length and what becomes of it.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut known: Option<TemplateStructure> = None;
    while !reader.is_empty() {
        let (active, by) = (reader.u32(), reader.u16());
        let data = reader.short();
        let Some(descriptor) = DependencyDescriptor::parse(data, known.as_ref()) else { continue };
        assert_eq!(descriptor.structure.is_some(), DependencyDescriptor::brings_structure(data));
        let number = (descriptor.frame_number, descriptor.frame_start);
        assert_eq!(DependencyDescriptor::frame_number_of(data), Some(number));
        let in_force = descriptor.structure.clone().or(known).expect("it is read by one");
        let info = PayloadInfo::from_descriptor(&descriptor, &in_force);
        assert_eq!((info.spatial_layer, info.frame_end), (descriptor.frame.spatial_layer, descriptor.frame_end));
        check_rewriting(data, &descriptor, &in_force, active & in_force.all_targets(), by);
        known = Some(in_force);
    }
}

fn check_rewriting(data: &[u8], before: &DependencyDescriptor, known: &TemplateStructure, active: u32, by: u16) {
    let mut out = [0; MAX_DESCRIPTOR_LEN];
    let targets = known.targets.len() as u32;
    // What is as long as a header extension can be has no room for more.
    let Some(len) = before.write_active_targets(data, active, targets, &mut out) else {
        return assert!(data.len() + 5 > MAX_DESCRIPTOR_LEN);
    };
    lessen_frame_number(&mut out, by);
    let after = DependencyDescriptor::parse(&out[..len], Some(known)).expect("it was written here");
    assert_eq!(after.frame_number, before.frame_number.wrapping_sub(by));
    assert_eq!(after.active_targets, Some(active));
    assert_eq!((&after.structure, after.frame), (&before.structure, before.frame));
    assert_eq!((after.frame_start, after.frame_end), (before.frame_start, before.frame_end));
}

/// A key frame of a stream with two temporal layers, and what follows it.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = [0xbe, 0x12, 0x34, 0x87, 0xc1, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x09, 0xfc, 0x05, 0x9c];
    let stream = |descriptors: &[&[u8]]| {
        let each = |data: &&[u8]| [&[0, 0, 0, 1, 0, 7, data.len() as u8][..], data].concat();
        descriptors.iter().flat_map(each).collect::<Vec<u8>>()
    };
    vec![stream(&[&key, &[0xc0, 0x12, 0x35], &[0xff, 0x12, 0x36, 0x40, 0x80]]), stream(&[&key])]
}

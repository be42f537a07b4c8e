use proptest::prelude::*;

use super::*;

/// Fields with their widths, written as the specification lists them.
fn bytes(fields: &[(u32, u32)]) -> Vec<u8> {
    let mut out = [0; MAX_LEN];
    let mut writer = BitWriter::new(&mut out);
    fields.iter().for_each(|(value, width)| writer.write(*value, *width).unwrap());
    let len = writer.finish();
    out[..len].to_vec()
}

/// L1T2 as libwebrtc describes it: two decode targets, one chain; templates of the key frame, of the layers 0 and 1.
const L1T2: &[(u32, u32)] = &[
    (1, 1),
    (0, 1),
    (62, 6),
    (0x1234, 16), // first packet, template 62 (the first one), frame number
    (1, 1),
    (0, 1),
    (0, 1),
    (0, 1),
    (0, 1), // the structure and nothing of the frame's own
    (62, 6),
    (1, 5), // ids from 62 on, two decode targets
    (0, 2),
    (1, 2),
    (3, 2), // layers 0, 0, 1
    (2, 2),
    (2, 2),
    (2, 2),
    (2, 2),
    (0, 2),
    (1, 2), // switch, switch; switch, switch; not present, discardable
    (0, 1),
    (1, 1),
    (1, 4),
    (0, 1),
    (1, 1),
    (0, 4),
    (0, 1), // references: none; 2 back; 1 back
    // One chain of at most two (ns(3): 1 is 10), which protects both targets (ns(1) has no bits).
    (0b10, 2),
    (0, 4),
    (2, 4),
    (1, 4),
    (1, 1),
    (639, 16),
    (359, 16), // the resolution
];

fn structure() -> TemplateStructure {
    DependencyDescriptor::parse(&bytes(L1T2), None).unwrap().structure.unwrap()
}

#[test]
fn a_key_frame_brings_the_structure() {
    let descriptor = DependencyDescriptor::parse(&bytes(L1T2), None).unwrap();
    assert!(descriptor.frame_start && !descriptor.frame_end);
    assert_eq!(descriptor.frame_number, 0x1234);
    let structure = descriptor.structure.unwrap();
    let target = |temporal_layer| DecodeTarget { spatial_layer: 0, temporal_layer, chain: 0 };
    assert_eq!(structure.targets, [target(0), target(1)]);
    assert_eq!((structure.templates.len(), structure.chains), (3, 1));
    assert_eq!(structure.resolutions, [(639, 359)]);
    assert_eq!(descriptor.frame.references, [0; MAX_REFERENCES]);
    assert_eq!((structure.targets_up_to(0, 0), structure.targets_up_to(9, 9), structure.all_targets()), (1, 3, 3));
}

#[test]
fn three_bytes_are_enough_for_what_follows() {
    // Last packet too, template 0, which is the third of 62, 63, 0.
    let third = DependencyDescriptor::parse(&[0xc0, 0x12, 0x35], Some(&structure())).unwrap();
    assert!(third.frame_start && third.frame_end);
    assert_eq!((third.frame.temporal_layer, third.frame.references[0], third.frame.chains[0]), (1, 1, 1));
    assert_eq!([0, 1].map(|target| third.frame.indication(target)), [Indication::NotPresent, Indication::Discardable]);
    assert_eq!(DependencyDescriptor::parse(&[0xc0, 0x12, 0x35], None), None, "nothing is known");
    assert_eq!(DependencyDescriptor::parse(&[0xc1, 0x12, 0x35], Some(&structure())), None, "no such template");
}

#[test]
fn a_frame_may_say_otherwise_than_its_template() {
    let fields = [
        (1, 1),
        (1, 1),
        (63, 6),
        (7, 16), // template 63
        (0, 1),
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 1), // active targets, indications, references and chains of its own
        (0b01, 2),
        (3, 2),
        (0, 2), // the first target; required, not present
        (1, 2),
        (4, 4),
        (2, 2),
        (0x13, 8),
        (0, 2), // 5 and 20 back
        (200, 8),
    ];
    let descriptor = DependencyDescriptor::parse(&bytes(&fields), Some(&structure())).unwrap();
    assert_eq!(descriptor.active_targets, Some(1));
    assert_eq!(descriptor.frame.indication(0), Indication::Required);
    assert_eq!((&descriptor.frame.references[..3], descriptor.frame.chains[0]), (&[5, 20, 0][..], 200));
}

#[test]
fn what_is_still_sent_can_be_said_of_any_descriptor() {
    let structure = structure();
    for before in [bytes(L1T2), vec![0xc0, 0x12, 0x35], vec![0xc0, 0x12, 0x35, 0x40, 0]] {
        let parsed = DependencyDescriptor::parse(&before, Some(&structure)).unwrap();
        let mut out = [0; MAX_LEN];
        let len = parsed.write_active_targets(&before, 0b01, 2, &mut out).unwrap();
        assert!(len <= before.len() + 1, "{len} bytes of {}", before.len());
        let after = DependencyDescriptor::parse(&out[..len], Some(&structure)).unwrap();
        assert_eq!(after.active_targets, Some(0b01));
        assert_eq!((after.structure, after.frame), (parsed.structure, parsed.frame));
        assert_eq!((after.frame_number, after.frame_end), (parsed.frame_number, parsed.frame_end));
    }
}

#[test]
fn frames_are_numbered_on() {
    let mut descriptor = bytes(L1T2);
    lessen_frame_number(&mut descriptor, 0x1235);
    assert_eq!(DependencyDescriptor::frame_number_of(&descriptor), Some((0xffff, true)));
}

proptest! {
    #[test]
    fn any_bytes_are_answered_and_what_is_read_can_be_written(
        data in proptest::collection::vec(any::<u8>(), 0..80), with_structure: bool, active: u32,
    ) {
        let known = structure();
        let mut data = data;
        if let (true, Some(flags)) = (with_structure, data.get_mut(3)) {
            *flags |= 0x80;
        }
        let Some(parsed) = DependencyDescriptor::parse(&data, Some(&known)) else { return Ok(()) };
        let in_force = parsed.structure.as_ref().unwrap_or(&known);
        let active = active & in_force.all_targets();
        let mut out = [0; MAX_LEN];
        let len = parsed.write_active_targets(&data, active, in_force.targets.len() as u32, &mut out).unwrap();
        let after = DependencyDescriptor::parse(&out[..len], Some(&known)).unwrap();
        prop_assert_eq!(after.active_targets, Some(active));
        prop_assert_eq!((after.structure, after.frame), (parsed.structure, parsed.frame));
    }
}

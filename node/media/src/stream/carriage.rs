//! What a packet carries in its header, as one client is to get it: a dependency descriptor counts the frames of what
//! the client gets, and says which of them do not come. A client that is not told of layers that were left out waits
//! for their frames. Frame numbers that were left out stay out: descriptors refer to frames by how far back their
//! numbers are.

use crate::stream::cut::Place;
use crate::stream::header_template::HeaderTemplate;
use crate::stream::rtp_cache::CachedPacket;
use crate::stream::succession::Shift;
use crate::wire::rtp::{CarriedExtensions, DependencyDescriptor, MAX_DESCRIPTOR_LEN, lessen_frame_number};

/// What a packet carries.
#[derive(Debug)]
pub(crate) struct Carriage<'a> {
    wanted: CarriedExtensions<'a>,
    /// Where it is another one than the publisher's: the descriptor, and its length.
    descriptor: Option<([u8; MAX_DESCRIPTOR_LEN], usize)>,
}

impl<'a> Carriage<'a> {
    /// What a packet carries in its place, to a client with this header; `None` if there is nothing that it wants.
    #[cold]
    pub(crate) fn new(
        packet: &CachedPacket<'a>,
        (place, shift): (Place, Shift),
        template: &HeaderTemplate,
    ) -> Option<Self> {
        let wanted = template.wanted(packet.carried())?;
        let descriptor = wanted.dependency_descriptor.and_then(|data| rewritten(packet, data, place, shift));
        Some(Self { wanted, descriptor })
    }

    /// It, as extensions.
    pub(crate) fn extensions(&self) -> CarriedExtensions<'_> {
        let rewritten = self.descriptor.as_ref().and_then(|(bytes, len)| bytes.get(..*len));
        CarriedExtensions { dependency_descriptor: rewritten.or(self.wanted.dependency_descriptor), ..self.wanted }
    }
}

/// `None` if it can go as it is.
fn rewritten(
    packet: &CachedPacket<'_>,
    data: &[u8],
    place: Place,
    shift: Shift,
) -> Option<([u8; MAX_DESCRIPTOR_LEN], usize)> {
    let mut bytes = [0; MAX_DESCRIPTOR_LEN];
    let len = with_active_targets(packet, data, place, &mut bytes);
    if len.is_none() && shift.frame == 0 {
        return None;
    }
    if len.is_none() {
        bytes.get_mut(..data.len())?.copy_from_slice(data);
    }
    lessen_frame_number(&mut bytes, shift.frame);
    Some((bytes, len.unwrap_or(data.len())))
}

/// Writes a descriptor that says which decode targets still come; `None` behind the first packet of a frame, and where
/// nothing was ever left out. What is said holds on, so that all come again is said too; a structure means it.
fn with_active_targets(
    packet: &CachedPacket<'_>,
    data: &[u8],
    place: Place,
    out: &mut [u8; MAX_DESCRIPTOR_LEN],
) -> Option<usize> {
    let ((spatial, temporal), structure) = place.up_to.layers().zip(packet.structure())?;
    let active = structure.targets_up_to(spatial, temporal);
    if !packet.info.frame_start {
        return None;
    }
    let descriptor = DependencyDescriptor::parse(data, Some(structure))?;
    if active == structure.all_targets() && descriptor.structure.is_some() {
        return None;
    }
    let active = active & descriptor.active_targets.unwrap_or(u32::MAX);
    descriptor.write_active_targets(data, active, structure.targets.len() as u32, out)
}

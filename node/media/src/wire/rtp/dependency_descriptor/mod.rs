//! The dependency descriptor, a header extension that tells a frame's layers and references whatever its codec is and
//! whether its payload can be read (<https://aomediacodec.github.io/av1-rtp-spec/>, appendix A).
//!
//! Most of it is said once, with a key frame: the *structure*, with a *template* for each kind of frame. A frame then
//! names its template and its number. A *decode target* is a choice of layers that a receiver may want; a *chain* is
//! the frames that one cannot do without.

mod bits;
mod structure;

use self::bits::{BitReader, BitWriter};

pub use structure::{DecodeTarget, Indication, TemplateStructure};

/// Bits of the fields that every descriptor has.
const MANDATORY_BITS: usize = 24;

/// The five flags behind them.
const FLAGS: u32 = 5;
const HAS_STRUCTURE: u32 = 0b10000;
const HAS_ACTIVE_TARGETS: u32 = 0b01000;
const HAS_INDICATIONS: u32 = 0b00100;
const HAS_REFERENCES: u32 = 0b00010;
const HAS_CHAINS: u32 = 0b00001;

/// References of a frame that are kept. Eight reference buffers are all that a decoder has.
pub const MAX_REFERENCES: usize = 8;

/// Most decode targets that there can be.
const MAX_TARGETS: usize = 32;

/// Longest descriptor that is rewritten: a two-byte header extension holds no longer one.
pub const MAX_LEN: usize = 255;

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// First packet of its frame.
    pub frame_start: bool,
    /// Last packet of its frame.
    pub frame_end: bool,
    /// Counts the frames of all layers, modulo 2^16.
    pub frame_number: u16,
    /// Comes with a key frame.
    pub structure: Option<TemplateStructure>,
    /// A bit for each decode target that the sender still sends, if that is said here.
    pub active_targets: Option<u32>,
    /// What the frame is to its stream.
    pub frame: FrameDependencies,
    /// Where the bits of `active_targets` are, or would be.
    active_targets_at: usize,
    /// Bits of the whole.
    len: usize,
}

/// What a frame is to its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameDependencies {
    /// Spatial layer.
    pub spatial_layer: u8,
    /// Temporal layer.
    pub temporal_layer: u8,
    /// What it is to each decode target, two bits each.
    pub indications: u64,
    /// How far back the frames are that it refers to, in frame numbers; zeros fill up.
    pub references: [u16; MAX_REFERENCES],
    /// How far back the last frame of each chain is; 0 where the chain begins with this frame.
    pub chains: [u8; MAX_TARGETS],
}

impl FrameDependencies {
    /// What it is to a decode target.
    pub fn indication(&self, target: usize) -> Indication {
        Indication::from_bits((self.indications >> (2 * target.min(MAX_TARGETS - 1))) as u8)
    }
}

impl DependencyDescriptor {
    /// Reads a descriptor. `known` is the structure that came last in the stream, which counts unless the descriptor
    /// brings another one. `None` if it is cut short, or names a template that there is none of.
    pub fn parse(data: &[u8], known: Option<&TemplateStructure>) -> Option<Self> {
        let mut bits = BitReader::new(data);
        let (frame_start, frame_end) = (bits.flag()?, bits.flag()?);
        let template_id = bits.read(6)? as u8;
        let frame_number = bits.read(16)? as u16;
        let mut flags = 0;
        if data.len() * 8 > MANDATORY_BITS {
            flags = bits.read(FLAGS)?;
        }
        let has = |bit: u32| flags & bit != 0;
        let structure = if has(HAS_STRUCTURE) { Some(TemplateStructure::read(&mut bits)?) } else { None };
        let in_force = structure.as_ref().or(known)?;
        let targets = in_force.targets.len() as u32;
        let active_targets_at = bits.position().max(MANDATORY_BITS + FLAGS as usize);
        let active_targets = if has(HAS_ACTIVE_TARGETS) { Some(bits.read(targets)?) } else { None };
        let template = in_force.template(template_id)?;
        let mut frame = template.frame;
        if has(HAS_INDICATIONS) {
            frame.indications = structure::read_indications(&mut bits, targets)?;
        }
        if has(HAS_REFERENCES) {
            frame.references = read_references(&mut bits)?;
        }
        if has(HAS_CHAINS) {
            for chain in frame.chains.get_mut(..in_force.chains.into())? {
                *chain = bits.read(8)? as u8;
            }
        }
        let len = bits.position();
        Some(Self { frame_start, frame_end, frame_number, structure, active_targets, frame, active_targets_at, len })
    }

    /// The number of the frame that a descriptor is of, and whether a frame's first packet has it. Needs no structure.
    pub fn frame_number_of(data: &[u8]) -> Option<(u16, bool)> {
        let &[first, high, low] = data.first_chunk()?;
        Some((u16::from_be_bytes([high, low]), first & 0x80 != 0))
    }

    /// Whether a descriptor brings a structure, as that of a key frame's first packet does.
    pub fn brings_structure(data: &[u8]) -> bool {
        data.get(MANDATORY_BITS / 8).is_some_and(|flags| flags & 0x80 != 0)
    }

    /// Writes the descriptor `data`, which this was read from, so that it says which decode targets are still sent, of
    /// as many as the structure in force has. Returns how many bytes that took; `None` if there is no room.
    pub fn write_active_targets(
        &self,
        data: &[u8],
        active: u32,
        targets: u32,
        out: &mut [u8; MAX_LEN],
    ) -> Option<usize> {
        let mut writer = BitWriter::new(out);
        let mut reader = BitReader::new(data);
        writer.copy(&mut reader, MANDATORY_BITS)?;
        let has_flags = data.len() * 8 > MANDATORY_BITS;
        let flags = if has_flags { reader.read(FLAGS)? } else { 0 };
        writer.write(flags | HAS_ACTIVE_TARGETS, FLAGS)?;
        if has_flags {
            let before = self.active_targets_at.saturating_sub(reader.position());
            writer.copy(&mut reader, before)?;
        }
        writer.write(active, targets)?;
        if self.active_targets.is_some() {
            reader.read(targets)?;
        }
        let behind = self.len.saturating_sub(reader.position());
        writer.copy(&mut reader, behind)?;
        Some(writer.finish())
    }
}

/// Takes `by` off the frame number of a descriptor: the frames go on behind those of another stream.
pub fn lessen_frame_number(descriptor: &mut [u8], by: u16) {
    if let Some([_, high, low]) = descriptor.first_chunk_mut() {
        [*high, *low] = u16::from_be_bytes([*high, *low]).wrapping_sub(by).to_be_bytes();
    }
}

fn read_references(bits: &mut BitReader<'_>) -> Option<[u16; MAX_REFERENCES]> {
    let mut references = [0; MAX_REFERENCES];
    for index in 0.. {
        let size = bits.read(2)?;
        if size == 0 {
            break;
        }
        let reference = bits.read(4 * size)? as u16 + 1;
        if let Some(place) = references.get_mut(index) {
            *place = reference;
        }
    }
    Some(references)
}

#[cfg(test)]
mod tests;

//! What a key frame says of the frames that follow it.

use super::bits::BitReader;
use super::{FrameDependencies, MAX_TARGETS};

/// Most templates that a structure can have: their ids have six bits.
const MAX_TEMPLATES: usize = 64;

/// What a frame is to a decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// Not needed for it.
    NotPresent,
    /// Needed, but by no other frame.
    Discardable,
    /// Whoever can decode the frame can decode all of the target's that follow.
    Switch,
    /// Needed.
    Required,
}

impl Indication {
    /// Of the lowest two bits.
    pub(super) fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::NotPresent,
            1 => Self::Discardable,
            2 => Self::Switch,
            _ => Self::Required,
        }
    }
}

/// A choice of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeTarget {
    /// Highest spatial layer.
    pub spatial_layer: u8,
    /// Highest temporal layer.
    pub temporal_layer: u8,
    /// The chain that it cannot do without, where there are chains.
    pub chain: u8,
}

/// A kind of frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// What its frames are to their stream, if they do not say otherwise.
    pub(super) frame: FrameDependencies,
}

/// What a key frame says of the frames that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateStructure {
    /// The id of the first template.
    pub(super) first_id: u8,
    pub(super) templates: Vec<Template>,
    /// The choices of layers that there are.
    pub targets: Vec<DecodeTarget>,
    /// How many chains there are.
    pub chains: u8,
    /// Width and height of each spatial layer, where they are told.
    pub resolutions: Vec<(u16, u16)>,
}

impl TemplateStructure {
    /// The template with this id.
    pub(super) fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from(id.wrapping_sub(self.first_id) & 0x3f))
    }

    /// A bit for each decode target that takes no layers above these.
    pub fn targets_up_to(&self, spatial: u8, temporal: u8) -> u32 {
        let is_below = |target: &DecodeTarget| target.spatial_layer <= spatial && target.temporal_layer <= temporal;
        let below = self.targets.iter().enumerate().filter(|(_, target)| is_below(target));
        below.fold(0, |bits, (index, _)| bits | 1_u32.wrapping_shl(index as u32))
    }

    /// A bit for each decode target.
    pub fn all_targets(&self) -> u32 {
        u32::MAX >> (MAX_TARGETS - self.targets.len().clamp(1, MAX_TARGETS))
    }

    pub(super) fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let first_id = bits.read(6)? as u8;
        let target_count = bits.read(5)? + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.frame.indications = read_indications(bits, target_count)?;
        }
        for template in &mut templates {
            read_references(bits, template)?;
        }
        let mut targets = vec![DecodeTarget::default(); target_count as usize];
        let chains = bits.below(target_count + 1)?;
        if chains > 0 {
            for target in &mut targets {
                target.chain = bits.below(chains)? as u8;
            }
            for template in &mut templates {
                for chain in template.frame.chains.get_mut(..chains as usize)? {
                    *chain = bits.read(4)? as u8;
                }
            }
        }
        find_layers(&templates, &mut targets);
        let resolutions = if bits.flag()? { read_resolutions(bits, &templates)? } else { Vec::new() };
        Some(Self { first_id, templates, targets, chains: chains as u8, resolutions })
    }
}

/// The layers of each template: they ascend.
fn read_layers(bits: &mut BitReader<'_>) -> Option<Vec<Template>> {
    let mut templates = Vec::new();
    let (mut spatial_layer, mut temporal_layer) = (0, 0);
    loop {
        if templates.len() == MAX_TEMPLATES {
            return None;
        }
        let frame = FrameDependencies { spatial_layer, temporal_layer, ..FrameDependencies::default() };
        templates.push(Template { frame });
        match bits.read(2)? {
            0 => {}
            1 => temporal_layer += 1,
            2 => (spatial_layer, temporal_layer) = (spatial_layer + 1, 0),
            _ => return Some(templates),
        }
    }
}

/// What a frame is to each of so many decode targets.
pub(super) fn read_indications(bits: &mut BitReader<'_>, targets: u32) -> Option<u64> {
    let mut indications = 0;
    for target in 0..targets {
        indications |= u64::from(bits.read(2)?) << (2 * target);
    }
    Some(indications)
}

fn read_references(bits: &mut BitReader<'_>, template: &mut Template) -> Option<()> {
    let mut index = 0;
    while bits.flag()? {
        let reference = bits.read(4)? as u16 + 1;
        if let Some(place) = template.frame.references.get_mut(index) {
            *place = reference;
        }
        index += 1;
    }
    Some(())
}

/// A decode target has the highest layers of the frames that are needed for it.
fn find_layers(templates: &[Template], targets: &mut [DecodeTarget]) {
    for (index, target) in targets.iter_mut().enumerate() {
        let needed = templates.iter().map(|template| &template.frame);
        for frame in needed.filter(|frame| frame.indication(index) != Indication::NotPresent) {
            target.spatial_layer = target.spatial_layer.max(frame.spatial_layer);
            target.temporal_layer = target.temporal_layer.max(frame.temporal_layer);
        }
    }
}

fn read_resolutions(bits: &mut BitReader<'_>, templates: &[Template]) -> Option<Vec<(u16, u16)>> {
    let highest = templates.iter().map(|template| template.frame.spatial_layer).max()?;
    (0..=highest).map(|_| Some((bits.read(16)? as u16, bits.read(16)? as u16))).collect()
}

//! Layers inside a stream, by the names that WebRTC-SVC gives them.

use std::fmt;
use std::str::FromStr;

/// Spatial and temporal layers of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalabilityMode {
    /// 1 to 3.
    pub spatial_layers: u8,
    /// 1 to 3.
    pub temporal_layers: u8,
    /// What spatial layers need of those below.
    pub inter_layer: InterLayer,
}

/// When a spatial layer refers to the one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterLayer {
    /// In all pictures.
    Always,
    /// In key pictures: `_KEY`.
    KeyPictures,
    /// Never, so that each could be a stream of its own: `S`.
    Never,
}

/// No name of a mode that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mode such as L1T3, L3T3_KEY or S2T1, of up to three layers")]
pub struct UnknownMode;

impl ScalabilityMode {
    /// So many temporal layers.
    pub const fn temporal(temporal_layers: u8) -> Self {
        Self { spatial_layers: 1, temporal_layers, inter_layer: InterLayer::Always }
    }
}

impl FromStr for ScalabilityMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let (name, is_key) = text.strip_suffix("_KEY").map_or((text, false), |name| (name, true));
        let (prefix, spatial_layers, temporal_layers) = match *name.as_bytes() {
            [prefix, spatial @ b'1'..=b'3', b'T', temporal @ b'1'..=b'3'] => (prefix, spatial - b'0', temporal - b'0'),
            _ => return Err(UnknownMode),
        };
        let inter_layer = match (prefix, is_key, spatial_layers) {
            (b'L', false, _) => InterLayer::Always,
            (b'L', true, 2..) => InterLayer::KeyPictures,
            (b'S', false, 2..) => InterLayer::Never,
            _ => return Err(UnknownMode),
        };
        Ok(Self { spatial_layers, temporal_layers, inter_layer })
    }
}

impl fmt::Display for ScalabilityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, suffix) = match self.inter_layer {
            InterLayer::Always => ("L", ""),
            InterLayer::KeyPictures => ("L", "_KEY"),
            InterLayer::Never => ("S", ""),
        };
        write!(f, "{prefix}{}T{}{suffix}", self.spatial_layers, self.temporal_layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_known_by_their_names() {
        for name in ["L1T1", "L1T3", "L2T1", "L3T3", "L2T2_KEY", "L3T3_KEY", "S2T1", "S3T3"] {
            assert_eq!(name.parse::<ScalabilityMode>().map(|mode| mode.to_string()).as_deref(), Ok(name));
        }
        for name in ["", "L4T1", "L1T0", "L1T1_KEY", "S1T1", "S2T1_KEY", "L2T2h", "l1t1", "L1T1 "] {
            assert_eq!(name.parse::<ScalabilityMode>(), Err(UnknownMode), "{name}");
        }
    }
}

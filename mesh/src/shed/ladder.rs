//! The order in which a route's layers go.

use sluice_proto::pipe::Layers;

/// How much of a route is carried, from nothing up. The order of the variants and of their fields is the order of
/// value: temporal layers go first, then spatial ones, at last the route as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// Nothing.
    Nothing,
    /// Everything up to a spatial and a temporal layer; below the highest spatial layer that is offered, temporal layer
    /// 0 only.
    UpTo { spatial: u8, temporal: u8 },
    /// Everything, also layers that appear later.
    Everything,
}

impl Rung {
    /// The next lower one of a route that offers layers up to `highest` (spatial, temporal).
    pub(super) fn down(self, highest: (u8, u8)) -> Self {
        let (top_spatial, top_temporal) = highest;
        match self {
            Self::Everything => Self::UpTo { spatial: top_spatial, temporal: top_temporal }.down(highest),
            Self::UpTo { spatial, temporal: 1.. } if spatial > top_spatial => {
                Self::UpTo { spatial: top_spatial, temporal: top_temporal }.down(highest)
            }
            Self::UpTo { spatial, temporal: temporal @ 1.. } => Self::UpTo { spatial, temporal: temporal - 1 },
            Self::UpTo { spatial: spatial @ 1.., temporal: 0 } => Self::UpTo { spatial: spatial - 1, temporal: 0 },
            Self::UpTo { spatial: 0, temporal: 0 } | Self::Nothing => Self::Nothing,
        }
    }

    /// The next higher one.
    pub(super) fn up(self, highest: (u8, u8)) -> Self {
        let (top_spatial, top_temporal) = highest;
        let next = match self {
            Self::Everything => return Self::Everything,
            Self::Nothing => Self::UpTo { spatial: 0, temporal: 0 },
            Self::UpTo { spatial, temporal } if spatial >= top_spatial => {
                Self::UpTo { spatial: top_spatial, temporal: temporal + 1 }
            }
            Self::UpTo { spatial, .. } => Self::UpTo { spatial: spatial + 1, temporal: 0 },
        };
        match next {
            Self::UpTo { spatial, temporal } if spatial >= top_spatial && temporal >= top_temporal => Self::Everything,
            next => next,
        }
    }

    /// Whether a layer is carried.
    pub(super) fn carries(self, layer: (u8, u8)) -> bool {
        match self {
            Self::Everything => true,
            Self::UpTo { spatial, temporal } => layer.0 <= spatial && layer.1 <= temporal,
            Self::Nothing => false,
        }
    }

    /// Whether going from `self` up to `to` must begin with a key frame, of a route that offers spatial layers up to
    /// `highest`: another one, or the first one, refers to frames that were not sent.
    pub(super) fn needs_key_frame(self, to: Self, highest: u8) -> bool {
        match (self, to) {
            (Self::Nothing, _) => true,
            (Self::UpTo { spatial, .. }, Self::UpTo { spatial: to, .. }) => to > spatial,
            (Self::UpTo { spatial, .. }, Self::Everything) => highest > spatial,
            _ => false,
        }
    }

    /// As it is told to the other end.
    pub(super) fn layers(self) -> Option<Layers> {
        match self {
            Self::Everything => Some(Layers::ALL),
            Self::UpTo { spatial, temporal } => Some(Layers { spatial, temporal }),
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporal_layers_go_before_spatial_ones() {
        let mut rung = Rung::Everything;
        let mut way = Vec::new();
        while rung != Rung::Nothing {
            rung = rung.down((2, 2));
            way.push(rung.layers().map(|layers| (layers.spatial, layers.temporal)));
        }
        assert_eq!(way, [Some((2, 1)), Some((2, 0)), Some((1, 0)), Some((0, 0)), None]);
    }

    #[test]
    fn up_is_the_way_down_again() {
        for highest in [(0, 0), (0, 2), (2, 0), (3, 5)] {
            let mut rung = Rung::Everything;
            let mut way = vec![rung];
            while rung != Rung::Nothing {
                let lower = rung.down(highest);
                assert!(lower < rung, "{rung:?} -> {lower:?}");
                assert_eq!(lower.up(highest), rung);
                rung = lower;
                way.push(rung);
            }
            assert!(way.len() <= 10);
        }
    }

    #[test]
    fn layers_that_vanish_do_not_stop_the_way() {
        let rung = Rung::UpTo { spatial: 2, temporal: 1 };
        assert_eq!(rung.up((0, 0)), Rung::Everything);
        assert_eq!(rung.down((0, 0)), Rung::Nothing);
    }
}

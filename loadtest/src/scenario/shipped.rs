//! The scenarios that come with the program.

const SHIPPED: [(&str, &str); 10] = [
    ("meeting", include_str!("../../scenarios/meeting.toml")),
    ("meeting-one-room", include_str!("../../scenarios/meeting-one-room.toml")),
    ("webinar", include_str!("../../scenarios/webinar.toml")),
    ("audio-room", include_str!("../../scenarios/audio-room.toml")),
    ("global", include_str!("../../scenarios/global.toml")),
    ("rough", include_str!("../../scenarios/rough.toml")),
    ("adaptive", include_str!("../../scenarios/adaptive.toml")),
    ("failover", include_str!("../../scenarios/failover.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("data", include_str!("../../scenarios/data.toml")),
];

/// Their names.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The TOML of one.
pub(super) fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
}

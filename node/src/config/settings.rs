//! The table behind the configuration: one declaration of a setting makes its field, its default, its key in the TOML
//! file, its environment variable, its flag, its documentation and its line in the sample.

use std::sync::OnceLock;

use super::load::Layers;
use super::{ConfigError, NodeConfig};

/// What is known of a setting besides its value.
#[derive(Debug)]
pub struct Setting {
    /// Its place in the TOML file, `section.name` or `name`.
    pub key: &'static str,
    /// The environment variable.
    pub env: String,
    /// The command line flag, without dashes.
    pub flag: String,
    /// What it is for, a line each, as in its doc comment.
    pub doc: &'static [&'static str],
    /// What is allowed.
    pub allowed: String,
    /// Its default as TOML, or an example where it is unset by default.
    pub sample: String,
    /// Whether [`Self::sample`] is the default.
    pub has_default: bool,
    /// Whether the flag may stand without a value.
    pub is_switch: bool,
    /// Whether the flag may be given several times.
    pub is_list: bool,
}

/// A table of the TOML file.
#[derive(Debug)]
pub struct Section {
    /// Its name, empty for the settings before the first table.
    pub name: &'static str,
    /// What it is about, a line each.
    pub doc: &'static [&'static str],
    /// Its settings.
    pub settings: Vec<Setting>,
}

/// Every section with its settings, in the order of the sample.
pub fn sections() -> &'static [Section] {
    static SECTIONS: OnceLock<Vec<Section>> = OnceLock::new();
    SECTIONS.get_or_init(|| {
        let mut sections = Vec::new();
        NodeConfig::describe(&mut sections);
        sections
    })
}

/// Every setting.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().iter().flat_map(|section| &section.settings)
}

/// A struct of settings; implemented by `section!`.
pub(super) trait Settings: Sized {
    /// Appends this section and those within it.
    fn describe(sections: &mut Vec<Section>);
    /// Reads each setting out of the merged layers.
    fn read(layers: &Layers) -> Result<Self, ConfigError>;
}

impl Setting {
    pub(super) fn new(
        key: &'static str,
        doc: &'static [&'static str],
        range: Option<(u64, u64)>,
        shape: Shape,
    ) -> Self {
        let name = key.replace('.', "_");
        Self {
            key,
            env: format!("SLUICE_{}", name.to_ascii_uppercase()),
            flag: name.replace('_', "-"),
            doc,
            allowed: allowed(range, shape.allowed),
            has_default: shape.default.is_some(),
            sample: shape.default.unwrap_or_else(|| shape.example.to_owned()),
            is_switch: shape.is_switch,
            is_list: shape.is_list,
        }
    }
}

/// What a value's type says of it.
pub(super) struct Shape {
    pub(super) allowed: &'static str,
    pub(super) example: &'static str,
    pub(super) default: Option<String>,
    pub(super) is_switch: bool,
    pub(super) is_list: bool,
}

pub(super) fn allowed(range: Option<(u64, u64)>, of_type: &str) -> String {
    match range {
        Some((min, max)) => format!("an integer from {min} to {max}"),
        None => of_type.to_owned(),
    }
}

/// Declares a struct of settings: `/// doc`, `name: Type = default,` each, with `[min ..= max]` after the type of a
/// bounded integer, then the structs of the tables below it.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $name:ident in $section:literal {
            $( $(#[doc = $doc:literal])+ $field:ident : $ty:ty $([ $min:literal ..= $max:literal ])? = $default:expr, )*
        }
        $( tables { $( $(#[doc = $table_doc:literal])+ $table:ident : $table_ty:ty, )+ } )?
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            $( $( $(#[doc = $table_doc])+ pub $table: $table_ty, )+ )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( $( $table: Default::default(), )+ )? }
            }
        }

        impl $crate::config::settings::Settings for $name {
            fn describe(sections: &mut Vec<$crate::config::settings::Section>) {
                use $crate::config::settings::{Section, Setting};
                #[allow(unused_variables, reason = "a section may have no settings of its own")]
                let default = Self::default();
                sections.push(Section {
                    name: $section.trim_end_matches('.'),
                    doc: &[$($section_doc),+],
                    settings: vec![$(
                        Setting::new(
                            concat!($section, stringify!($field)),
                            &[$($doc),+],
                            $crate::config::settings::range!($($min, $max)?),
                            $crate::config::value::shape(&default.$field),
                        ),
                    )*],
                });
                $( $( <$table_ty>::describe(sections); )+ )?
            }

            fn read(layers: &$crate::config::load::Layers) -> Result<Self, $crate::config::ConfigError> {
                Ok(Self {
                    $( $field: layers.read(
                        concat!($section, stringify!($field)), $crate::config::settings::range!($($min, $max)?), || $default)?, )*
                    $( $( $table: <$table_ty>::read(layers)?, )+ )?
                })
            }
        }
    };
}
pub(super) use section;

macro_rules! range {
    () => {
        None
    };
    ($min:literal, $max:literal) => {
        Some(($min, $max))
    };
}
pub(super) use range;

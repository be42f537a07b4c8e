//! The types that a setting's value can have, and how each is read from TOML, environment and flags.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use figment::value::Value;
use sluice_proto::ids::{NodeId, Region};

use super::address::{Announced, Network, TurnUrl};
use super::settings::Shape;
use crate::ortc::MIME_TYPES;

/// A type that settings can have.
pub(crate) trait SettingValue: Sized {
    /// What is allowed, in words that finish the sentence "allowed is ...".
    const ALLOWED: &'static str;
    /// A value for the sample where there is no default, as TOML.
    const EXAMPLE: &'static str = "\"\"";
    /// Whether a flag may stand without a value.
    const IS_SWITCH: bool = false;
    /// Whether there can be several, and so several flags.
    const IS_LIST: bool = false;

    /// Out of text: an environment variable, a flag, or a string of the file.
    fn parse(text: &str) -> Option<Self>;

    /// Out of any value of the file.
    fn read(value: &Value) -> Option<Self> {
        Self::parse(&scalar(value)?)
    }

    /// As TOML; `None` is unset.
    fn to_toml(&self) -> Option<String>;

    /// The number to hold against a range.
    fn as_number(&self) -> Option<u64> {
        None
    }
}

pub(super) fn shape<T: SettingValue>(default: &T) -> Shape {
    Shape {
        allowed: T::ALLOWED,
        example: T::EXAMPLE,
        default: default.to_toml(),
        is_switch: T::IS_SWITCH,
        is_list: T::IS_LIST,
    }
}

/// A value of the file as the text that one would write in an environment variable.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        Value::Bool(_, value) => Some(value.to_string()),
        Value::Num(_, number) => {
            number.to_i128().map(|n| n.to_string()).or_else(|| number.to_u128().map(|n| n.to_string()))
        }
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// A string of the file, quoted.
fn quoted(text: &impl fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

macro_rules! integer {
    ($($ty:ty),+) => { $(
        impl SettingValue for $ty {
            const ALLOWED: &'static str = "an integer";
            const EXAMPLE: &'static str = "1";
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn to_toml(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn as_number(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
        }
    )+ };
}
integer!(u16, u32, u64);

macro_rules! text {
    ($($ty:ty: $allowed:literal, $example:literal;)+) => { $(
        impl SettingValue for $ty {
            const ALLOWED: &'static str = $allowed;
            const EXAMPLE: &'static str = $example;
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn to_toml(&self) -> Option<String> {
                Some(quoted(self))
            }
        }
    )+ };
}
text! {
    NodeId: "a name of up to 128 letters, digits, dots, dashes and underscores", "\"node-1\"";
    Region: "a name of up to 128 letters, digits, dots, dashes and underscores", "\"eu\"";
    SocketAddr: "an IP address and a port, such as 127.0.0.1:4443 or [::1]:4443", "\"203.0.113.7:4443\"";
    Announced: "an IP address or host name, alone or with a port, such as 203.0.113.7 or sfu.example:4444", "\"203.0.113.7\"";
    Network: "an IP address, or a network such as 10.0.0.0/8", "\"10.0.0.0/8\"";
    Origin: "an origin such as https://app.example, or *", "\"https://app.example\"";
    HostPort: "a host name or IP address with a port, such as node-2.example:4445", "\"node-2.example:4445\"";
    HttpUrl: "a URL that begins with http:// or https://", "\"https://eu-1.example\"";
    TurnUrl: "a URL such as turns:turn.example:443?transport=tcp", "\"turns:turn.example:443?transport=tcp\"";
    CodecName: "a MIME type among audio/opus, audio/red, audio/PCMU, audio/PCMA, video/VP8, video/VP9, video/H264, video/H265 and video/AV1", "\"video/VP8\"";
    Label: "up to 64 letters, digits, dots, dashes and underscores, or nothing", "\"\"";
    LogFormat: "\"text\" or \"json\"", "\"text\"";
    LogFilter: "a level (error, warn, info, debug, trace) or a list such as info,sluice_mesh=debug", "\"info\"";
}

impl SettingValue for bool {
    const ALLOWED: &'static str = "true or false";
    const IS_SWITCH: bool = true;
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for PathBuf {
    const ALLOWED: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/var/lib/sluice\"";
    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }
    fn to_toml(&self) -> Option<String> {
        Some(quoted(&self.display()))
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;
    const EXAMPLE: &'static str = T::EXAMPLE;
    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }
    fn read(value: &Value) -> Option<Self> {
        T::read(value).map(Some)
    }
    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }
    fn as_number(&self) -> Option<u64> {
        self.as_ref().and_then(T::as_number)
    }
}

/// A list: an array in the file, separated by commas elsewhere.
impl<T: SettingValue> SettingValue for Vec<T> {
    const ALLOWED: &'static str = T::ALLOWED;
    const EXAMPLE: &'static str = T::EXAMPLE;
    const IS_LIST: bool = true;
    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Array(_, items) => items.iter().map(T::read).collect(),
            other => Self::parse(&scalar(other)?),
        }
    }
    fn to_toml(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(T::to_toml).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// The MIME type of a codec that routers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecName(&'static str);

impl CodecName {
    /// Of all that routers know, the most preferred one first.
    pub fn all() -> Vec<Self> {
        MIME_TYPES.map(Self).to_vec()
    }
}

impl FromStr for CodecName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        MIME_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(text)).map(Self).ok_or(())
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// PEM: a path to a file, or in the environment and in tests the text itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// Where to read it.
    File(PathBuf),
    /// The text, which may be a private key and is never shown.
    Text(String),
}

impl Pem {
    /// The PEM text.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(&self) -> std::io::Result<String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path),
            Self::Text(text) => Ok(text.clone()),
        }
    }
}

impl SettingValue for Pem {
    const ALLOWED: &'static str = "the path of a PEM file, or PEM text";
    const EXAMPLE: &'static str = "\"/etc/sluice/node.pem\"";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            pem if pem.trim_start().starts_with("-----BEGIN") => Some(Self::Text(pem.to_owned())),
            path => Some(Self::File(path.into())),
        }
    }
    fn to_toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text(_) => f.write_str("(PEM text)"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl SettingValue for Secret {
    const ALLOWED: &'static str = "16 to 512 visible characters";
    const EXAMPLE: &'static str = "\"at-least-16-characters\"";
    fn parse(text: &str) -> Option<Self> {
        let is_one = (16..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then(|| Self(text.to_owned()))
    }
    fn to_toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for machines.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Declares a string that is checked by a function when it is read.
macro_rules! checked_text {
    ($($(#[$doc:meta])+ $name:ident, $check:expr;)+) => { $(
        $(#[$doc])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(()) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+ };
}
checked_text! {
    /// A host name or IP address with a port other than 0.
    HostPort, |text| text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    /// An HTTP or HTTPS URL.
    HttpUrl, |text| text.parse::<axum::http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    /// The origin of a web page as browsers send it (RFC 6454 section 6.2), or `*` for all.
    Origin, |text| text == "*" || text == "null" || text.parse::<axum::http::Uri>().is_ok_and(|uri| {
        uri.scheme().is_some() && uri.authority().is_some_and(|authority| text.ends_with(authority.as_str()))
    });
    /// A short name that may be empty.
    Label, |text| text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    /// What is logged, in `tracing_subscriber`'s directives.
    LogFilter, |text| !text.is_empty() && tracing_subscriber::EnvFilter::try_new(text).is_ok();
}

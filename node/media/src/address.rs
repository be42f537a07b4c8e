//! Where a client is.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

/// A transport address, RFC 8445 section 4: of UDP and of TCP the same numbers are two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportAddress {
    /// Where datagrams come from and go to.
    Udp(SocketAddr),
    /// The other end of a connection (RFC 6544), whose frames are datagrams in turn.
    Tcp(SocketAddr),
}

impl TransportAddress {
    /// Address and port.
    #[inline]
    pub fn socket_addr(self) -> SocketAddr {
        match self {
            Self::Udp(address) | Self::Tcp(address) => address,
        }
    }

    /// Whether it is the other end of a connection.
    #[inline]
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// As candidates have it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Udp(_) => "udp",
            Self::Tcp(_) => "tcp",
        }
    }
}

/// Without the protocol: seldom are both of the same numbers in use, and a packet's hash has its price.
impl Hash for TransportAddress {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.socket_addr().hash(state);
    }
}

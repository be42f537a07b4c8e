//! The one door: every way into a room passes here, whatever dialect is spoken behind it. It alone knows tokens,
//! tenants and what a node takes.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_proto::ids::{NamespaceId, PeerId, RoomId, RoomKey};

use crate::access::token::{Claims, TokenError};
use crate::access::{Namespaces, Rights};
use crate::events::audit::{Entry, Who};
use crate::rooms::seat::Seat;
use crate::rooms::{Guest, PeerSecret, Rooms};

/// Who wants to enter, as it says itself.
#[derive(Clone)]
pub(crate) struct Opening {
    /// The tenant; without it the token's, or the default one.
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) room: RoomId,
    /// Without it the token's.
    pub(crate) peer: Option<PeerId>,
    /// JSON web token.
    pub(crate) token: Option<String>,
    /// What the answer to a former join said.
    pub(crate) secret: Option<String>,
    /// A connection of this peer broke, and it goes on with what it has, if that is still there.
    pub(crate) resumes: bool,
    /// Where the connection comes from.
    pub(crate) remote: SocketAddr,
    /// Where it is told to find TURN.
    pub(crate) turn_urls: Arc<[String]>,
}

/// Why somebody does not enter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// The URL lacks something.
    #[error("{0}")]
    Incomplete(&'static str),
    /// Nobody knows who it is.
    #[error(transparent)]
    Unauthorised(#[from] TokenError),
    /// It is known who it is, and that is not enough.
    #[error("{0}")]
    Forbidden(String),
    /// Not now.
    #[error("{0}")]
    Busy(String),
}

/// The door of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Entrance {
    rooms: Rooms,
    namespaces: Arc<Namespaces>,
}

impl Entrance {
    /// The door of a node with these tenants.
    pub(crate) fn new(rooms: Rooms, namespaces: Arc<Namespaces>) -> Self {
        Self { rooms, namespaces }
    }

    /// Where it leads.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// The tenants.
    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Takes a seat for who may have one.
    ///
    /// # Errors
    /// [`AdmissionError`]; nobody inside notices then.
    pub(crate) fn admit(&self, opening: Opening) -> Result<Seat, AdmissionError> {
        let identified = self.identify(&opening)?;
        let (remote, who) = (opening.remote, Who::new(&identified.key, &identified.peer));
        self.seat(opening, identified).map_err(|words| {
            self.rooms.events().audit().record(&Entry::refused(remote, who, &words));
            AdmissionError::Busy(words)
        })
    }

    fn seat(&self, opening: Opening, identified: Identified) -> Result<Seat, String> {
        let Identified { key, peer, rights } = identified;
        let Opening { secret, resumes, remote, turn_urls, .. } = opening;
        let secret = secret.map(PeerSecret::from);
        // One that was in the room may have its place still, which the room knows.
        let may_have_place = resumes || secret.is_some() || rights.names_peer();
        let place = if may_have_place { None } else { Some(rights.namespace().admit()?) };
        self.rooms.enter(Guest { key, peer, secret, resumes, remote, turn_urls, rights, place })
    }

    /// Whether it may have a seat, if there is one.
    ///
    /// # Errors
    /// [`AdmissionError`], never that it is busy.
    pub(crate) fn check(&self, opening: &Opening) -> Result<(), AdmissionError> {
        self.identify(opening).map(drop)
    }

    /// What a token allows that a peer shows instead of the one with which it came to this room.
    ///
    /// # Errors
    /// [`AdmissionError`]; what it may do is as before then.
    pub(crate) fn renew(&self, seat: &Seat, token: &str) -> Result<Rights, AdmissionError> {
        let RoomKey { namespace, room } = seat.room();
        let (_, rights, claims) = self.namespaces.authenticate(Some(namespace.clone()), Some(token))?;
        check_claims(claims.as_ref(), room, Some(seat.peer()))?;
        self.check_region(&rights, claims.as_ref())?;
        Ok(rights)
    }

    /// Whether a token grants to ask for what concerns a room, or all rooms of a namespace.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub(crate) fn admit_admin(
        &self,
        namespace: Option<NamespaceId>,
        room: Option<&RoomId>,
        token: Option<&str>,
    ) -> Result<(), AdmissionError> {
        let (token, namespace) = (token.ok_or(TokenError::Missing)?, namespace.ok_or(TokenError::Missing)?);
        let (_, rights, claims) = self.namespaces.authenticate(Some(namespace), Some(token))?;
        // Where everything is open nobody knows who asks.
        let claims = claims.ok_or(TokenError::Missing)?;
        self.check_region(&rights, Some(&claims))?;
        let is_its = room.map_or(claims.room.is_none(), |room| claims.is_for_room(room.as_str()));
        match rights.grants().admin && is_its {
            true => Ok(()),
            false => Err(AdmissionError::Forbidden("the token does not grant this".to_owned())),
        }
    }

    fn identify(&self, opening: &Opening) -> Result<Identified, AdmissionError> {
        let Opening { namespace, room, peer, token, .. } = opening;
        let (namespace, rights, claims) = self.namespaces.authenticate(namespace.clone(), token.as_deref())?;
        check_claims(claims.as_ref(), room, peer.as_ref())?;
        self.check_region(&rights, claims.as_ref())?;
        let peer = claims.and_then(|claims| claims.sub).or_else(|| peer.clone());
        let peer = peer.ok_or(AdmissionError::Incomplete("the URL's query lacks peerId"))?;
        Ok(Identified { key: RoomKey { namespace, room: room.clone() }, peer, rights })
    }

    /// Whether this is a region of the namespace, and of the token if that names one.
    fn check_region(&self, rights: &Rights, claims: Option<&Claims>) -> Result<(), AdmissionError> {
        let here = self.namespaces.region();
        if !rights.namespace().is_served() {
            return Err(AdmissionError::Forbidden(format!("the namespace is not served in the region {here}")));
        }
        match claims.and_then(|claims| claims.region.as_ref()) {
            Some(region) if region != here => {
                Err(AdmissionError::Forbidden(format!("the token is of the region {region}, and this is {here}")))
            }
            _ => Ok(()),
        }
    }
}

fn check_claims(claims: Option<&Claims>, room: &RoomId, peer: Option<&PeerId>) -> Result<(), AdmissionError> {
    let Some(claims) = claims else { return Ok(()) };
    if !claims.is_for_room(room.as_str()) {
        return Err(AdmissionError::Forbidden("the token is of another room".to_owned()));
    }
    match (&claims.sub, peer) {
        (Some(of_token), Some(peer)) if of_token != peer => {
            Err(AdmissionError::Forbidden("the token is of another peer".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Somebody who may enter.
struct Identified {
    key: RoomKey,
    peer: PeerId,
    rights: Rights,
}

//! What of a client's datagrams a handshake gets to see: whole messages, each once and in its turn.
//!
//! Whoever can send with the client's address can send this anything, so all of it is bounded: time by the length of
//! the datagram, memory by the constants below, and what does not fit, does not parse or is not due is forgotten, never
//! a reason to fail. What is missing then comes again: a client repeats its flight until it is answered.

use std::collections::VecDeque;

use super::message::{Added, MAX_MESSAGE_LEN, Message};
use super::record::{
    CONTENT_ALERT, CONTENT_HANDSHAKE, Fragment, change_cipher_spec, fragments, handshake_record, records,
};

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// Messages that are put together at once, the next one and those after it: a server's flight has five, a client's
/// three.
const WINDOW: usize = 5;

/// Bytes of messages that are put together at once: the largest, and a whole flight of usual ones.
const MAX_BUFFERED: usize = 16_384;

/// With AES-GCM: explicit nonce, a Finished message in one piece, tag (RFC 5288 section 3).
pub(super) const FINISHED_LEN: usize = 8 + 24 + 16;

/// With AES-GCM: explicit nonce, level and description, tag.
pub(super) const ALERT_LEN: usize = 8 + 2 + 16;

/// Encrypted records that wait until the keys are there. One is needed.
const MAX_WAITING: usize = 4;

/// Encrypted records that a handshake gets to see; some ten are needed if each is lost again and again.
const MAX_PROTECTED: u32 = 256;

/// Puts together what the client says in a handshake.
#[derive(Debug)]
pub(super) struct Inbound {
    is_client: bool,
    /// The first ClientHello. It is put together again and again until the client has shown by its second that it
    /// receives what is sent to it.
    hello: Option<Message>,
    /// Whether anything but a first ClientHello is taken.
    is_open: bool,
    /// The number of the message that is due.
    next: u16,
    /// The kind of the last message that was seen.
    last: Option<u8>,
    /// The message that is due, and those after it.
    messages: VecDeque<Option<Message>>,
    protected: VecDeque<Vec<u8>>,
    protected_count: u32,
    /// The number of the next plaintext record. They are numbered here, so that a forged number says nothing.
    sequence: u64,
    cipher_spec_is_changed: bool,
}

/// What a datagram brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought {
    /// Something new.
    pub(super) news: bool,
    /// Something that came before: the client may be missing the answer.
    pub(super) repetition: bool,
}

impl Inbound {
    /// For the server's end of a handshake, or the client's.
    pub(super) fn new(is_client: bool) -> Self {
        Self {
            is_client,
            hello: None,
            is_open: is_client,
            next: u16::from(!is_client),
            last: None,
            messages: VecDeque::new(),
            protected: VecDeque::new(),
            protected_count: 0,
            // As server, a hello was the first.
            sequence: u64::from(!is_client),
            cipher_spec_is_changed: false,
        }
    }

    /// Takes a datagram in; `None` if it is no DTLS.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Option<Brought> {
        let mut brought = Brought::default();
        for record in records(datagram)? {
            match (record.content, record.epoch, record.body.len()) {
                (CONTENT_HANDSHAKE, 0, _) => {
                    fragments(record.body).for_each(|fragment| self.add(&fragment, &mut brought));
                }
                (CONTENT_HANDSHAKE, 1, FINISHED_LEN) | (CONTENT_ALERT, 1, ALERT_LEN) => {
                    brought.news |= self.add_protected(record.whole);
                }
                // Plaintext alerts are not believed, they may be anybody's, and that the cipher changes shows by the
                // records themselves.
                _ => {}
            }
        }
        Some(brought)
    }

    fn add(&mut self, fragment: &Fragment<'_>, brought: &mut Brought) {
        if self.is_due_first(fragment) {
            return self.add_to_hello(fragment, brought);
        }
        let known: &[u8] = if self.is_client {
            &[
                HELLO_VERIFY_REQUEST,
                SERVER_HELLO,
                CERTIFICATE,
                SERVER_KEY_EXCHANGE,
                CERTIFICATE_REQUEST,
                SERVER_HELLO_DONE,
            ]
        } else {
            &[CLIENT_HELLO, CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY]
        };
        if !self.is_open || !known.contains(&fragment.kind) {
            return;
        }
        let Some(index) = fragment.message.checked_sub(self.next).map(usize::from) else {
            brought.repetition = true;
            return;
        };
        if index >= WINDOW || !self.make_room(index, fragment.total) {
            return;
        }
        if self.messages.len() <= index {
            self.messages.resize_with(index + 1, || None);
        }
        match self.messages.get_mut(index) {
            Some(Some(message)) => brought.news |= message.add_or_begin_anew(fragment) != Added::Known,
            Some(empty) => {
                *empty = Message::begin(fragment);
                brought.news |= empty.is_some();
            }
            None => {}
        }
    }

    fn is_due_first(&self, fragment: &Fragment<'_>) -> bool {
        !self.is_client && self.next == 1 && fragment.message == 0 && fragment.kind == CLIENT_HELLO
    }

    fn add_to_hello(&mut self, fragment: &Fragment<'_>, brought: &mut Brought) {
        match &mut self.hello {
            Some(hello) => match hello.add_or_begin_anew(fragment) {
                Added::Known => brought.repetition = true,
                Added::New | Added::Contradicts => brought.news = true,
            },
            None => {
                self.hello = Message::begin(fragment);
                brought.news |= self.hello.is_some();
            }
        }
    }

    /// Whether there is room for a message of this length at `index`, if need be after giving up those behind it.
    fn make_room(&mut self, index: usize, len: usize) -> bool {
        let others = |messages: &VecDeque<Option<Message>>| -> usize {
            let others = messages.iter().enumerate().filter(|(other, _)| *other != index);
            others.filter_map(|(_, message)| message.as_ref()).map(Message::len).sum()
        };
        if len > MAX_MESSAGE_LEN {
            return false;
        }
        while others(&self.messages) + len > MAX_BUFFERED {
            if self.messages.len() <= index + 1 {
                return false;
            }
            self.messages.pop_back();
        }
        true
    }

    fn add_protected(&mut self, record: &[u8]) -> bool {
        if !self.is_open || self.protected_count >= MAX_PROTECTED {
            return false;
        }
        if self.protected.len() >= MAX_WAITING {
            self.protected.pop_front();
        }
        self.protected.push_back(record.to_vec());
        true
    }

    /// Everything that a handshake needs is taken from now on.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Takes the first ClientHello, once it is whole, and until the second was seen: its body.
    pub(super) fn take_hello(&mut self) -> Option<Vec<u8>> {
        let body = self.hello.as_ref()?.whole()?.to_vec();
        self.hello = None;
        Some(body)
    }

    /// The next record for the handshake. `is_acceptable` sees a message's kind and body before the handshake does;
    /// what it does not accept is forgotten, as is what is not in its turn.
    pub(super) fn next(&mut self, is_acceptable: impl FnOnce(u8, &[u8]) -> bool) -> Option<Vec<u8>> {
        if self.is_said() {
            return self.next_protected();
        }
        let message = self.messages.front()?.as_ref()?;
        let (kind, body) = (message.kind(), message.whole()?);
        if !self.is_due(kind) || !is_acceptable(kind, body) {
            if let Some(front) = self.messages.front_mut() {
                *front = None;
            }
            return None;
        }
        let record = handshake_record(self.sequence, kind, self.next, body);
        self.sequence += 1;
        self.next += 1;
        self.last = Some(kind);
        self.messages.pop_front();
        self.hello = None;
        Some(record)
    }

    /// Whether a message of this kind is due. Both ends show a certificate, always.
    fn is_due(&self, kind: u8) -> bool {
        let due: &[u8] = match (self.is_client, self.last) {
            (false, None) => &[CLIENT_HELLO],
            (true, None) => &[HELLO_VERIFY_REQUEST, SERVER_HELLO],
            (true, Some(HELLO_VERIFY_REQUEST)) => &[SERVER_HELLO],
            (false, Some(CLIENT_HELLO)) | (true, Some(SERVER_HELLO)) => &[CERTIFICATE],
            (false, Some(CERTIFICATE)) => &[CLIENT_KEY_EXCHANGE],
            (false, Some(CLIENT_KEY_EXCHANGE)) => &[CERTIFICATE_VERIFY],
            (true, Some(CERTIFICATE)) => &[SERVER_KEY_EXCHANGE],
            (true, Some(SERVER_KEY_EXCHANGE)) => &[CERTIFICATE_REQUEST],
            (true, Some(CERTIFICATE_REQUEST)) => &[SERVER_HELLO_DONE],
            _ => &[],
        };
        due.contains(&kind)
    }

    /// Whether all is said that the client says in plaintext.
    fn is_said(&self) -> bool {
        self.last == Some(if self.is_client { SERVER_HELLO_DONE } else { CERTIFICATE_VERIFY })
    }

    fn next_protected(&mut self) -> Option<Vec<u8>> {
        let record = self.protected.pop_front()?;
        if self.cipher_spec_is_changed {
            self.protected_count += 1;
            return Some(record);
        }
        self.cipher_spec_is_changed = true;
        self.protected.push_front(record);
        Some(change_cipher_spec(self.sequence))
    }
}

//! Datagrams on a connection, each behind its length: RFC 4571 section 2, as RFC 6544 section 3 has it of ICE.

/// Bytes that tell a frame's length.
pub const LENGTH_LEN: usize = 2;

/// Shorter ones are of no protocol that is spoken here: RTP has a header of 12 bytes, DTLS and STUN more, and RTCP is
/// sealed. They would be a cheap way to many datagrams.
pub const MIN_FRAME_LEN: usize = 12;

/// As of datagrams: more than any Ethernet frame.
pub const MAX_FRAME_LEN: usize = 2_048;

/// A frame longer or shorter than any datagram: what follows it cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub struct MalformedFrame(pub usize);

/// Appends a datagram as a frame. Of one longer than a frame can be nothing is appended.
pub fn write_frame(datagram: &[u8], out: &mut Vec<u8>) {
    if let Ok(len) = u16::try_from(datagram.len()) {
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

/// The whole frames at the beginning of what came, cut in place.
#[derive(Debug)]
pub struct Frames<'a> {
    rest: &'a mut [u8],
    malformed: Option<MalformedFrame>,
}

impl<'a> Frames<'a> {
    /// Of bytes that begin with a frame.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes, malformed: None }
    }

    /// The beginning of a frame whose end has not come: fewer bytes than the longest frame has.
    ///
    /// # Errors
    /// [`MalformedFrame`] if there is no frame but something else.
    pub fn finish(self) -> Result<&'a [u8], MalformedFrame> {
        self.malformed.map_or(Ok(self.rest), Err)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_be_bytes(*self.rest.first_chunk()?));
        if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&len) {
            self.malformed = Some(MalformedFrame(len));
        }
        if self.malformed.is_some() || self.rest.len() < LENGTH_LEN + len {
            return None;
        }
        let (frame, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(LENGTH_LEN + len)?;
        self.rest = rest;
        frame.get_mut(LENGTH_LEN..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a stream that comes in pieces, as a worker does.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, MalformedFrame> {
        let (mut read, mut rest) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut bytes = [&rest, piece].concat();
            let mut frames = Frames::new(&mut bytes);
            read.extend(frames.by_ref().map(|frame| frame.to_vec()));
            rest = frames.finish()?.to_vec();
            assert!(rest.len() < LENGTH_LEN + MAX_FRAME_LEN);
        }
        Ok(read)
    }

    #[test]
    fn frames_of_no_datagram_end_the_stream_behind_those_before_them() {
        for len in [0, MIN_FRAME_LEN - 1, MAX_FRAME_LEN + 1, 65_535] {
            let mut stream = Vec::new();
            write_frame(&[7; 100], &mut stream);
            write_frame(&vec![8; len], &mut stream);
            write_frame(&[9; 100], &mut stream);
            let mut frames = Frames::new(&mut stream);
            assert_eq!(frames.by_ref().map(|frame| frame.to_vec()).collect::<Vec<_>>(), [[7; 100]], "{len}");
            assert_eq!(frames.finish(), Err(MalformedFrame(len)));
        }
        let mut out = Vec::new();
        write_frame(&vec![0; 65_536], &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn a_stream_is_the_same_frames_wherever_it_is_cut(
            lens in prop::collection::vec(MIN_FRAME_LEN..=MAX_FRAME_LEN, 0..20),
            cuts in prop::collection::vec(1..3_000_usize, 1..20),
        ) {
            let frames: Vec<Vec<u8>> = lens.iter().enumerate().map(|(at, len)| vec![at as u8; *len]).collect();
            let mut stream = Vec::new();
            frames.iter().for_each(|frame| write_frame(frame, &mut stream));
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            let pieces = std::iter::from_fn(|| {
                let (piece, behind) = rest.split_at((*cuts.next()?).min(rest.len()));
                rest = behind;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(read(pieces), Ok(frames.clone()));
            prop_assert_eq!(read(stream.chunks(1)), Ok(frames));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..5_000)) {
            let _ = read(bytes.chunks(700));
        }
    }
}

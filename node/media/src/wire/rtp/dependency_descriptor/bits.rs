//! Bits in the order of their significance, as the AV1 specification writes its fields (section 4.10).

/// Reads bits.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// How many bits were read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `count` bits, 32 at most.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// The next bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit != 0)
    }

    /// A number below `count`, of which few have one bit less than others: `ns(n)`.
    pub(super) fn below(&mut self, count: u32) -> Option<u32> {
        let width = u32::BITS - count.leading_zeros();
        let short = (1 << width) - count;
        let value = self.read(width.saturating_sub(1))?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.read(1)?)
    }
}

/// Writes bits into an array.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    data: &'a mut [u8],
    position: usize,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(data: &'a mut [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// Writes the lowest `count` bits; `None` if there is no room.
    pub(super) fn write(&mut self, value: u32, count: u32) -> Option<()> {
        for bit in (0..count).rev() {
            let byte = self.data.get_mut(self.position / 8)?;
            if self.position.is_multiple_of(8) {
                *byte = 0;
            }
            *byte |= ((value >> bit & 1) as u8) << (7 - self.position % 8);
            self.position += 1;
        }
        Some(())
    }

    /// Writes the next `count` bits of the reader.
    pub(super) fn copy(&mut self, reader: &mut BitReader<'_>, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.write(reader.read(1)?, 1))
    }

    /// How many bytes were written, the last one filled with zeros.
    pub(super) fn finish(self) -> usize {
        self.position.div_ceil(8)
    }
}

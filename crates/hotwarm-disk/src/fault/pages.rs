//! The bytes of a file, in pages that copies share until one of them is written to.
//!
//! A test that crashes at every call copies a whole disk at every call. Most of its bytes are the zeros of files that
//! were filled ahead, and of the rest nearly nothing changes from one call to the next.

use std::sync::Arc;

pub(crate) const PAGE_SIZE_BYTES: usize = 4096;

/// One page that is not all zeros.
pub type Page = Arc<[u8; PAGE_SIZE_BYTES]>;

/// Bytes of a file. What lies past `size` in its last page is zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    /// `None`: zeros.
    pages: Vec<Option<Page>>,
    size: usize,
}

impl Pages {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut pages = Self::default();
        pages.write(bytes, 0);
        pages
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Cuts, or extends by zeros.
    pub(crate) fn resize(&mut self, size: usize) {
        if size < self.size {
            let within = size % PAGE_SIZE_BYTES;
            if within > 0 && self.pages[size / PAGE_SIZE_BYTES].is_some() {
                self.page(size / PAGE_SIZE_BYTES)[within..].fill(0);
            }
        }
        self.pages.resize(size.div_ceil(PAGE_SIZE_BYTES), None);
        self.size = size;
    }

    /// Copies from `offset` on until the buffer is full or the bytes end; says how many.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let start = offset.min(self.size);
        let end = (start + buffer.len()).min(self.size);
        for (index, within, piece) in pieces(start, end) {
            let target = &mut buffer[piece.start - start..piece.end - start];
            match &self.pages[index] {
                Some(page) => target.copy_from_slice(&page[within..within + piece.len()]),
                None => target.fill(0),
            }
        }
        end - start
    }

    /// Replaces bytes, growing if need be.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.size {
            self.resize(end);
        }
        for (index, within, piece) in pieces(offset, end) {
            let source = &bytes[piece.start - offset..piece.end - offset];
            // What is zero stays free of charge.
            if self.pages[index].is_some() || source.iter().any(|byte| *byte != 0) {
                self.page(index)[within..within + piece.len()].copy_from_slice(source);
            }
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        self.read(&mut bytes, 0);
        bytes
    }

    /// The pages that are not all zeros, with their offsets.
    pub(crate) fn written(&self) -> impl Iterator<Item = (u64, Page)> {
        let pages = self.pages.iter().enumerate();
        pages.filter_map(|(index, page)| Some(((index * PAGE_SIZE_BYTES) as u64, page.clone()?)))
    }

    /// A page of one's own.
    fn page(&mut self, index: usize) -> &mut [u8; PAGE_SIZE_BYTES] {
        Arc::make_mut(self.pages[index].get_or_insert_with(|| Arc::new([0; PAGE_SIZE_BYTES])))
    }
}

/// The bytes `start..end` page by page: the page, the offset within it, and the part of the bytes.
fn pieces(start: usize, end: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let index = at / PAGE_SIZE_BYTES;
        let piece = at..end.min((index + 1) * PAGE_SIZE_BYTES);
        at = piece.end;
        (!piece.is_empty()).then_some((index, piece.start % PAGE_SIZE_BYTES, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_what_a_plain_vector_holds() {
        let (mut pages, mut plain) = (Pages::default(), Vec::new());
        for (round, (offset, length)) in
            [(0, 10), (4090, 20), (9000, 1), (0, 9001), (12_288, 4096), (5000, 100)].into_iter().enumerate()
        {
            let bytes = vec![if round == 5 { 0 } else { round as u8 + 1 }; length];
            pages.write(&bytes, offset);
            plain.resize(plain.len().max(offset + length), 0);
            plain[offset..offset + length].copy_from_slice(&bytes);
            assert_eq!(pages.to_vec(), plain, "round {round}");
        }
        for size in [5050, 20_000, 3, 4096, 0] {
            let before = pages.clone();
            pages.resize(size);
            let kept = plain.len();
            plain.resize(size, 0);
            assert_eq!(pages.to_vec(), plain, "size {size}");
            assert_eq!(before.size(), kept, "a copy keeps what it held");
        }
        let mut buffer = [9; 8];
        assert_eq!(Pages::new(b"abc").read(&mut buffer, 1), 2);
        assert_eq!(buffer, [b'b', b'c', 9, 9, 9, 9, 9, 9]);
        assert_eq!(Pages::new(b"abc").read(&mut buffer, 7), 0);
    }

    #[test]
    fn zeros_take_no_page() {
        let mut pages = Pages::default();
        pages.resize(1 << 30);
        pages.write(&[0; 8192], 4096);
        assert_eq!(pages.written().count(), 0);
        pages.write(b"x", 8191);
        assert_eq!(pages.written().map(|(offset, _)| offset).collect::<Vec<_>>(), [4096]);
    }
}

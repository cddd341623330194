/// A growing set of small numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// What is in this set and not in the other, ascending.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = word & !other.0.get(at).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    at as u32 * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference() {
        let (mut a, mut b) = (Bits::default(), Bits::default());
        for n in [0, 63, 64, 200] {
            a.insert(n);
        }
        b.insert(64);
        assert_eq!(a.without(&b).collect::<Vec<_>>(), [0, 63, 200]);
        assert_eq!(b.without(&a).count(), 0);
    }
}

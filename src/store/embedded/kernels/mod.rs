//! Products of rows of small whole numbers: the one hot loop of the store, and the only place in it with `unsafe`.
//!
//! The loop exists once in plain Rust ([`portable`]), which is also compiled for AVX2, and once by hand for
//! AVX-512 with VNNI, whose instruction no compiler finds by itself. Which runs is found out at run time. `unsafe`
//! is needed to call what was compiled for instructions that not every machine has (a [`Kernel`] exists only for
//! what the machine has), and to ask for memory before it is needed. Tests hold each to the portable twin; whole
//! numbers leave no room for rounding, so they agree exactly.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "vector instructions; each use says why it is sound, and tests hold it to the portable twin"
    )
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// Rows are multiples of this many numbers long; what is missing is filled with zeros.
pub(in crate::store) const LANES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The kernel for one kind of machine. One exists only if this machine is of that kind: that is what makes calling
/// it sound.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Kernel(Isa);

impl Kernel {
    /// The fastest that this machine can run.
    pub(in crate::store) fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let has_vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni");
            if has_vnni {
                return Self(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                return Self(Isa::Avx2);
            }
        }
        Self(Isa::Portable)
    }

    /// The product of two rows.
    pub(super) fn one(self, a: &[i8], b: &[i8]) -> i32 {
        let (a, b) = (a.as_chunks().0, b.as_chunks().0);
        match self.0 {
            Isa::Portable => portable::dot(a, b),
            // SAFETY: a `Kernel` of this kind exists only where the machine has AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::dot(a, b) },
            // SAFETY: a `Kernel` of this kind exists only where the machine has AVX-512 (F, BW, VNNI).
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::dot(a, b) },
        }
    }

    /// The products of a query with all rows, which lie one behind the other and are as long as it is.
    pub(in crate::store) fn all(self, query: &[i8], rows: &[i8], out: &mut Vec<i32>) {
        let (query, rows) = (query.as_chunks().0, rows.as_chunks().0);
        out.clear();
        match self.0 {
            Isa::Portable => portable::all(query, rows, out),
            // SAFETY: as in `one`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::all(query, rows, out) },
            // SAFETY: as in `one`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::all(query, rows, out) },
        }
    }

    /// The products of a query with those of the rows that have these numbers.
    pub(super) fn some(self, query: &[i8], rows: &[i8], numbers: &[u32], out: &mut Vec<i32>) {
        let (query, rows) = (query.as_chunks().0, rows.as_chunks().0);
        out.clear();
        match self.0 {
            Isa::Portable => portable::some(query, rows, numbers, out),
            // SAFETY: as in `one`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::some(query, rows, numbers, out) },
            // SAFETY: as in `one`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::some(query, rows, numbers, out) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that this machine can run.
    fn kernels() -> Vec<Kernel> {
        #[cfg(target_arch = "x86_64")]
        if Kernel::of_this_machine().0 == Isa::Avx512 {
            return vec![Kernel(Isa::Portable), Kernel(Isa::Avx2), Kernel(Isa::Avx512)];
        }
        vec![Kernel(Isa::Portable), Kernel::of_this_machine()]
    }

    proptest! {
        #[test]
        fn all_agree_exactly(
            chunks in 1usize..8,
            numbers in prop::collection::vec(any::<i8>(), 8 * LANES * 5),
        ) {
            let long = chunks * LANES;
            let (query, rows) = (&numbers[..long], &numbers[long..5 * long]);
            let naive = |row: &[i8]| query.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum::<i32>();
            let expected: Vec<i32> = rows.chunks(long).map(naive).collect();
            for kernel in kernels() {
                let (mut all, mut some) = (Vec::new(), Vec::new());
                kernel.all(query, rows, &mut all);
                prop_assert_eq!(&all, &expected, "{:?}", kernel);
                kernel.some(query, rows, &[3, 1], &mut some);
                prop_assert_eq!(&some, &[expected[3], expected[1]], "{:?}", kernel);
                prop_assert_eq!(kernel.one(query, &rows[..long]), expected[0], "{:?}", kernel);
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (low, high) = (vec![-128i8; 16 * LANES], vec![127i8; 16 * LANES]);
        for kernel in kernels() {
            assert_eq!(kernel.one(&low, &low), 16 * 64 * 16384);
            assert_eq!(kernel.one(&low, &high), -16 * 64 * 16256);
            assert_eq!(kernel.one(&high, &low), -16 * 64 * 16256);
        }
    }

    #[test]
    #[should_panic(expected = "out of")]
    fn a_number_beyond_the_rows_is_refused() {
        let row = vec![1i8; LANES];
        Kernel::of_this_machine().some(&row, &row, &[1], &mut Vec::new());
    }
}

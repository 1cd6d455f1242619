//! Numbers of 16 bits (IEEE half precision), without an instruction for them.
#![expect(clippy::inline_always, reason = "code takes the instruction set of the function it is inlined in")]

/// 2 to the power of 112: the difference of the two formats' exponents.
const REBIAS: f32 = f32::from_bits(0x7780_0000);

/// The number that `half` stands for. Not for infinities, which nothing here has.
#[inline(always)]
pub(in super::super) fn from_half(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

/// The nearest number of 16 bits; what is too large becomes the largest.
#[inline(always)]
pub(in super::super) fn to_half(value: f32) -> u16 {
    const LARGEST: f32 = 65504.0;
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    let scaled = (value.abs().min(LARGEST) * (1.0 / REBIAS)).to_bits();
    // To the nearest, and to the even one of two that are equally near.
    let rounded = scaled + 0xfff + (scaled >> 13 & 1);
    sign | (rounded >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_comes_back() {
        for half in (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00) {
            assert_eq!(to_half(from_half(half)), half);
        }
    }

    #[test]
    fn known_numbers_are_as_the_standard_writes_them() {
        let known = [(1.0, 0x3c00), (-2.0, 0xc000), (65504.0, 0x7bff), (0.333_251_95, 0x3555)];
        for (value, half) in known.into_iter().chain([(6.097_555e-5, 0x03ff), (5.960_464_5e-8, 0x0001)]) {
            assert_eq!((to_half(value), from_half(half)), (half, value));
        }
    }

    #[test]
    fn others_become_the_nearest_and_no_infinity() {
        assert_eq!(to_half(1.000_488_3), 0x3c00, "half-way goes to the even one");
        assert_eq!(to_half(1.001_464_8), 0x3c02);
        assert_eq!(to_half(1.0006), 0x3c01);
        assert_eq!((to_half(1e9), to_half(-1e9)), (0x7bff, 0xfbff));
    }
}

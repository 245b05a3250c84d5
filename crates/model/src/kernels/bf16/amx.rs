//! The register tile of AMX: two tiles of 16 rows by two of 16 columns, 32 values of the inner dimension at a time.
//! Rows are packed in the tiles that are loaded: 32 rows of 16 lanes, then the next 16 lanes of each.
//!
//! The instructions are written as assembly, since the standard library's intrinsics for them are not stable.

use super::{Destination, NR};
use std::arch::asm;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Rows of the tile.
const MR: usize = 32;
/// Lanes of a row that are loaded at a time.
const LANES: usize = 16;

/// Whether the processor has tiles of bf16 and the operating system lets this process use them.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const TILE: u32 = 1 << 24;
        const BF16: u32 = 1 << 22;
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::x86_64::__cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16
            && permitted()
    })
}

/// Asks Linux for the tile registers, which a process has to do once for all its threads.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call changes nothing but what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The shapes of the tile registers on this thread, which it does not leave, until dropped.
pub(crate) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// All eight registers with 16 rows of 64 bytes. Tiles must be available.
    pub(super) fn new() -> Self {
        #[repr(C, align(64))]
        struct Shapes {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(64);
        shapes.rows[..8].fill(16);
        debug_assert!(available());
        // SAFETY: the processor has the instruction, and reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, preserves_flags)) };
        Self(PhantomData)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: there are tiles, or there would be no such value.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// The sums' first instructions.
macro_rules! begin {
    (whole, clear) => {
        "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3"
    };
    (whole, load) => {
        concat!(
            "tileloadd tmm0, [{c} + {row_c} * 1]\ntileloadd tmm1, [{c} + {row_c} * 1 + 64]\n",
            "tileloadd tmm2, [{below} + {row_c} * 1]\ntileloadd tmm3, [{below} + {row_c} * 1 + 64]"
        )
    };
    (upper, clear) => {
        "tilezero tmm0\ntilezero tmm1"
    };
    (upper, load) => {
        "tileloadd tmm0, [{c} + {row_c} * 1]\ntileloadd tmm1, [{c} + {row_c} * 1 + 64]"
    };
}

/// Two tiles of rows by two of columns.
macro_rules! whole_tile {
    ($a:ident, $b:ident, $steps:ident, $c:ident, $stride:ident, $begin:ident) => {
        asm!(
            begin!(whole, $begin),
            "2:",
            "tileloadd tmm4, [{a} + {row_a} * 1]",
            "tileloadd tmm6, [{b} + {row_b} * 1]",
            "tileloadd tmm5, [{a} + {row_a} * 1 + 1024]",
            "tileloadd tmm7, [{b} + {row_b} * 1 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {row_c} * 1], tmm0",
            "tilestored [{c} + {row_c} * 1 + 64], tmm1",
            "tilestored [{below} + {row_c} * 1], tmm2",
            "tilestored [{below} + {row_c} * 1 + 64], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            steps = inout(reg) $steps => _,
            row_a = in(reg) 64usize,
            row_b = in(reg) 128usize,
            c = in(reg) $c,
            below = in(reg) $c.wrapping_add(16 * $stride),
            row_c = in(reg) $stride * 4,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// One tile of rows by two of columns.
macro_rules! upper_half {
    ($a:ident, $b:ident, $steps:ident, $c:ident, $stride:ident, $begin:ident) => {
        asm!(
            begin!(upper, $begin),
            "2:",
            "tileloadd tmm4, [{a} + {row_a} * 1]",
            "tileloadd tmm6, [{b} + {row_b} * 1]",
            "tileloadd tmm7, [{b} + {row_b} * 1 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {row_c} * 1], tmm0",
            "tilestored [{c} + {row_c} * 1 + 64], tmm1",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            steps = inout(reg) $steps => _,
            row_a = in(reg) 64usize,
            row_b = in(reg) 128usize,
            c = in(reg) $c,
            row_c = in(reg) $stride * 4,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// `result (+)= alpha·a·b` of packed panels.
///
/// # Safety
/// A [`Configured`] must be alive on this thread, and `result` be elements that nobody else uses meanwhile.
#[inline]
pub(super) unsafe fn tile(a: &[u32], b: &[u32], result: Destination, accumulate: bool, alpha: f32) {
    let steps = b.len() / (NR * LANES);
    let Destination { at, stride, rows, cols } = result;
    assert!(
        steps > 0 && a.len() == steps * MR * LANES && b.len() == steps * NR * LANES && rows <= MR && cols <= NR,
        "panels of other sizes"
    );
    // A sum begins with what is there, whether or not the tile is whole, so that an element is summed in one order.
    let begin = if accumulate && alpha == 1.0 { Begin::Loaded } else { Begin::Zero };
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: the panels have the sizes that were asserted, and the result its own by the caller's promise.
    unsafe {
        if rows == MR && cols == NR && alpha == 1.0 {
            return multiply(MR, begin, a, b, steps, at, stride);
        }
        let mut sums = MaybeUninit::<Sums>::uninit();
        let first = sums.as_mut_ptr().cast::<f32>();
        if begin == Begin::Loaded {
            first.write_bytes(0, MR * NR);
            for row in 0..rows {
                first.add(row * NR).copy_from_nonoverlapping(at.add(row * stride), cols);
            }
        }
        multiply(rows, begin, a, b, steps, first, NR);
        write(first, result, accumulate && begin == Begin::Zero, alpha);
    }
}

/// What sums begin with.
#[derive(Clone, Copy, PartialEq)]
enum Begin {
    Zero,
    /// What the result holds.
    Loaded,
}

/// 32 rows by 32 columns, or, where `rows` are no more, the upper 16 rows, in rows `stride` apart.
///
/// # Safety
/// `a` and `b` are panels of `steps` groups of lanes, and `c` as many rows of 32 elements.
#[inline]
unsafe fn multiply(rows: usize, begin: Begin, a: *const u32, b: *const u32, steps: usize, c: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match (rows > 16, begin) {
            (true, Begin::Zero) => whole_tile!(a, b, steps, c, stride, clear),
            (true, Begin::Loaded) => whole_tile!(a, b, steps, c, stride, load),
            (false, Begin::Zero) => upper_half!(a, b, steps, c, stride, clear),
            (false, Begin::Loaded) => upper_half!(a, b, steps, c, stride, load),
        }
    }
}

/// The sums of a whole tile.
#[repr(align(64))]
struct Sums {
    _values: [f32; MR * NR],
}

/// Scales the sums and writes, or adds, those that are wanted.
///
/// # Safety
/// `sums` are as many rows of [`NR`], at an address of whole vectors, as `result` has. `result` must be elements that
/// nobody else uses meanwhile.
#[target_feature(enable = "avx512f")]
unsafe fn write(sums: *const f32, result: Destination, accumulate: bool, alpha: f32) {
    use std::arch::x86_64::*;
    let Destination { at, stride, rows, cols } = result;
    let alpha = _mm512_set1_ps(alpha);
    let masks = [0, 16].map(|half| ((1u32 << cols.saturating_sub(half).min(16)) - 1) as __mmask16);
    for row in 0..rows {
        for (half, mask) in masks.into_iter().enumerate() {
            let at = at.wrapping_add(row * stride + half * 16);
            // SAFETY: masked loads and stores touch the `cols` elements of the row that are there.
            unsafe {
                let sum = _mm512_load_ps(sums.add(row * NR + half * 16));
                let value = if accumulate {
                    _mm512_fmadd_ps(sum, alpha, _mm512_maskz_loadu_ps(mask, at))
                } else {
                    _mm512_mul_ps(sum, alpha)
                };
                _mm512_mask_storeu_ps(at, mask, value);
            }
        }
    }
}

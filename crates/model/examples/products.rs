//! Speed of the forward products against the `gemm` crate, in multiply-adds and in bytes of weight.
//!
//!     cargo run --release -p lopper-model --example products
use lopper_model::kernels::gemm;
use lopper_model::kernels::matmul_stored::{ActivationTile, matmul_stored};
use lopper_model::kernels::weight::{Format, Weight};
use lopper_model::{MatmulPrecision, Threads};
use std::time::Instant;

fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::INFINITY;
    let mut spent = 0.0;
    while spent < 0.6 {
        let began = Instant::now();
        f();
        let took = began.elapsed().as_secs_f64();
        best = best.min(took);
        spent += took;
    }
    best
}

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() {
    println!(
        "{:>6} {:>6} {:>7} | GFLOP/s: gemm f32, rows f32, rows bf16→f32, rows bf16·bf16 | GB/s of bf16",
        "n", "in", "out"
    );
    for (inputs, outputs) in [(896, 896), (896, 4864), (4864, 896), (4096, 14336), (128, 384)] {
        let w: Vec<f32> = (0..inputs * outputs).map(|i| (i % 1013) as f32 / 1013.0 - 0.5).collect();
        let half: Vec<u8> = w.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        for n in [1, 4, 8, 16, 64, 512, 2048] {
            let x: Vec<f32> = (0..n * inputs).map(|i| (i % 997) as f32 / 997.0 - 0.5).collect();
            let mut y = vec![0f32; n * outputs];
            let flop = 2e-9 * (n * inputs * outputs) as f64;
            let base =
                seconds(|| gemm::linear(Threads::Pool.into(), &x, Weight::of_f32(&w, inputs), &mut y, false, 1.0));
            let mut rows = ActivationTile::default();
            let mut time = |weight: Weight<'_>, precision| {
                seconds(|| {
                    rows.fill(&x, inputs, weight.format, precision);
                    matmul_stored(Threads::Pool, &rows, weight, 0, outputs, &mut y, 1.0);
                })
            };
            let bf16 = Weight { bytes: &half, format: Format::Bf16, inputs };
            let (a, b, c) = (
                time(Weight::of_f32(&w, inputs), MatmulPrecision::F32),
                time(bf16, MatmulPrecision::F32),
                time(bf16, MatmulPrecision::Bf16),
            );
            println!(
                "{n:>6} {inputs:>6} {outputs:>7} | {:>7.1} {:>7.1} {:>7.1} {:>7.1} | {:>5.1} {:>5.1}",
                flop / base,
                flop / a,
                flop / b,
                flop / c,
                half.len() as f64 / b * 1e-9,
                half.len() as f64 / c * 1e-9
            );
        }
    }
}

//! Memory and precision, for the commands that only run a model forward.

use clap::{Args, ValueEnum};

/// Memory and precision of forward passes.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// Read each layer from its file when it is used, for models larger than memory
    #[arg(long)]
    pub stream: bool,

    /// Precision of matrix multiplications; `bfloat16` is faster, rounds weights and activations, and keeps a copy of
    /// the weights in memory (without --stream)
    #[arg(long, value_enum, default_value_t = DtypeArg::Float32)]
    pub dtype: DtypeArg,

    /// Limit the memory for hidden states to SIZE, such as `4GB`; with more of it, more sequences and candidates are
    /// computed together [default: 1GB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<usize>,
}

/// Precision of matrix multiplications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// Use weights as they are stored, and compute in 32 bits
    #[default]
    Float32,
    /// Round weights and activations to bfloat16, and sum in 32 bits
    Bfloat16,
}

/// Bytes of a size such as `4GB`, `512M` or `1000000`.
fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size; expected a number with K, M, G or T, such as `4GB`");
    let upper = text.trim().to_ascii_uppercase();
    let body = upper.strip_suffix('B').unwrap_or(&upper);
    let (number, unit) = match body.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&body[..at], Some(unit)),
        _ => (body, None),
    };
    let factor: f64 = match unit {
        None => 1.0,
        Some('K') => 1e3,
        Some('M') => 1e6,
        Some('G') => 1e9,
        Some('T') => 1e12,
        Some(_) => return Err(wrong()),
    };
    let bytes = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if bytes.is_finite() && (1.0..9e15).contains(&bytes) { Ok(bytes as usize) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("4GB"), Ok(4_000_000_000));
        assert_eq!(parse_size("1.5 g"), Ok(1_500_000_000));
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("300kb"), Ok(300_000));
        for wrong in ["", "GB", "-1G", "1E400", "4XB", "nan", "0"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}

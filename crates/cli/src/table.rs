//! Plain tables for standard output: columns aligned, the first to the left, the others to the right.

/// Lays out `rows` under `header`.
pub fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    layout(&header, rows, true)
}

/// As [`render`], for a number of columns that is not known beforehand.
pub fn render_rows(header: &[&str], rows: &[impl AsRef<[String]>]) -> String {
    layout(header, rows, true)
}

/// Lays out words rather than figures: every column to the left.
pub fn words<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    layout(&header, rows, false)
}

fn layout(header: &[&str], rows: &[impl AsRef<[String]>], figures: bool) -> String {
    let rows = rows.iter().map(|row| row.as_ref().iter().map(String::as_str).collect());
    let lines: Vec<Vec<&str>> = std::iter::once(header.to_vec()).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |line: &Vec<&str>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match figures && column > 0 {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A count with its digits in groups of three: `1 234 567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of bytes in the unit that suits it: `3.42 GB` (powers of 1000).
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.2} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.2} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1.5".to_owned()], ["long".to_owned(), "10".to_owned()]];
        assert_eq!(render(["x", "value"], &rows), "x     value\na       1.5\nlong     10");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(7), count(1000), count(1_234_567)], ["7", "1 000", "1 234 567"]);
        assert_eq!([bytes(999), bytes(1000), bytes(12_345_678)], ["999 B", "1.00 kB", "12.35 MB"]);
    }
}

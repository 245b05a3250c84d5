//! Plain tables for standard output: columns aligned, the first to the left, the others to the right.

/// Lays out `rows` under `header`.
pub fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    render_rows(&header, rows)
}

/// As [`render`], for a number of columns that is not known beforehand.
pub fn render_rows(header: &[&str], rows: &[impl AsRef<[String]>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            match column {
                0 => line.extend([cell, &padding]),
                _ => line.extend(["  ", &padding, cell]),
            }
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.as_ref().iter().map(String::as_str))));
    lines.join("\n")
}

/// Lays out words rather than figures: every column to the left.
pub fn words<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_str()).chain([header[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(header)).chain(rows).collect::<Vec<_>>().join("\n")
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

/// Columns of text, each as wide as its widest cell. The columns of `right` are set to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = head.iter().map(|h| width(h)).collect();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if let Some(w) = widths.get_mut(at) {
                *w = (*w).max(width(cell));
            }
        }
    }
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, w))| {
                let space = " ".repeat(w.saturating_sub(width(cell)));
                if right.contains(&at) {
                    format!("{space}{cell}")
                } else {
                    format!("{cell}{space}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["ööö".to_owned(), "10".to_owned()],
        ];
        let lines = table(&["n", "count"], &rows, &[1]);
        assert_eq!(lines, ["n    count", "a        1", "ööö     10"]);
    }
}

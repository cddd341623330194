use std::fmt::Write as _;

use crate::escape::markup;

/// SVG being written. Numbers are rounded to a tenth of a pixel; every text is escaped.
#[derive(Debug, Default)]
pub(super) struct Svg(pub(super) String);

/// Where a text's x stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4]) {
        self.write(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/>"
        ));
    }

    pub(super) fn line(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        self.write(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A path; an empty one is left out.
    pub(super) fn path(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            self.write(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
        }
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.write(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            markup(text)
        ));
    }

    /// Opens a group that a pointer or the keyboard can ask about: `tip` is shown, from `from` to
    /// `to` is marked.
    pub(super) fn open_tip(&mut self, class: &str, [from, to]: [f64; 2], tip: &str) {
        let tip = markup(tip);
        self.write(format_args!(
            "<g class=\"tip {class}\" tabindex=\"0\" role=\"img\" data-from=\"{from:.1}\" \
             data-to=\"{to:.1}\" aria-label=\"{tip}\">"
        ));
    }

    pub(super) fn close(&mut self) {
        self.0.push_str("</g>\n");
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(arguments)
            .expect("a string takes everything");
    }
}

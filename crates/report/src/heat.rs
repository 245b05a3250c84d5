//! The colours of the layer map: one hue from the page's own surface (nothing lost) to deep (all
//! lost), for light and dark, with a text colour that stays readable on each step.

type Rgb = [f64; 3];

/// Steps of the scale; step 0 is nothing left, the last is everything kept.
const STEPS: usize = 11;

struct Scheme {
    lost: Rgb,
    kept: Rgb,
    dark_text: &'static str,
    light_text: &'static str,
}

const LIGHT: Scheme =
    Scheme { lost: [166.0, 43.0, 22.0], kept: [253.0, 246.0, 240.0], dark_text: "#000000", light_text: "#ffffff" };
const DARK: Scheme =
    Scheme { lost: [240.0, 120.0, 84.0], kept: [36.0, 39.0, 46.0], dark_text: "#000000", light_text: "#ffffff" };

/// The class of a retention; beyond 1 is the same as 1.
pub fn class(retention: f64) -> String {
    if retention.is_finite() {
        format!("h{}", (retention.clamp(0.0, 1.0) * (STEPS - 1) as f64).round())
    } else {
        "none".into()
    }
}

/// The classes' rules. Paper gets the light ones.
pub fn css() -> String {
    format!("{}@media screen and (prefers-color-scheme: dark) {{\n{}}}\n", rules(&LIGHT), rules(&DARK))
}

fn rules(scheme: &Scheme) -> String {
    let mut out = String::new();
    for step in 0..STEPS {
        let t = step as f64 / (STEPS - 1) as f64;
        let [r, g, b] = [0, 1, 2].map(|i| scheme.lost[i] + (scheme.kept[i] - scheme.lost[i]) * t);
        let text = if contrast([r, g, b], hex(scheme.dark_text)) >= contrast([r, g, b], hex(scheme.light_text)) {
            scheme.dark_text
        } else {
            scheme.light_text
        };
        out.push_str(&format!(".h{step} {{ background: rgb({r:.0} {g:.0} {b:.0}); color: {text}; }}\n"));
    }
    out
}

/// WCAG 2 contrast ratio.
fn contrast(a: Rgb, b: Rgb) -> f64 {
    let luminance = |c: Rgb| {
        let [r, g, b] = c.map(|v| {
            let v = v / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    let (x, y) = (luminance(a), luminance(b));
    (x.max(y) + 0.05) / (x.min(y) + 0.05)
}

fn hex(colour: &str) -> Rgb {
    [1, 3, 5].map(|i| colour.get(i..i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).map_or(0.0, f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_readable_on_every_step() {
        for scheme in [&LIGHT, &DARK] {
            for step in 0..STEPS {
                let t = step as f64 / (STEPS - 1) as f64;
                let back = [0, 1, 2].map(|i| scheme.lost[i] + (scheme.kept[i] - scheme.lost[i]) * t);
                let best = contrast(back, hex(scheme.dark_text)).max(contrast(back, hex(scheme.light_text)));
                assert!(best >= 4.5, "step {step}: {best}");
            }
        }
    }

    #[test]
    fn every_retention_has_a_class() {
        assert_eq!(
            [class(-1.0), class(0.0), class(0.96), class(7.0), class(f64::NAN)],
            ["h0", "h0", "h10", "h10", "none"]
        );
    }
}

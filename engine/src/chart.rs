//! Charts as SVG, to stand inside a page: the collector's own, and the load generator's reports.
//!
//! In:   series of points, names of the axes.
//! Out:  an `<svg>` whose colours `STYLE` replaces, so that it is light, dark or printed.
//! Law:  a chart without points is a sentence that says so; no number is drawn that was not given.
//! Not:  what is charted (`http::charts`, `loadgen::page`), or the way of an LSP (`drawing`).

use plotters::prelude::*;

/// What the colours of a drawing look like on a page: part of the style of every page with charts.
/// The variables are the page's.
pub const STYLE: &str = include_str!("chart/colours.css");

/// Colours of series, in order; `STYLE` names each of them again.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xc2, 0x57, 0x1a),
    RGBColor(0x3a, 0x92, 0x3a),
    RGBColor(0x8a, 0x4f, 0xb0),
    RGBColor(0xb0, 0x3a, 0x5a),
    RGBColor(0x5a, 0x5a, 0x20),
];
pub(crate) const INK: RGBColor = RGBColor(0x10, 0x10, 0x11);
pub(crate) const GRID: RGBColor = RGBColor(0xd0, 0xd0, 0xd1);
/// What is well, what is not, what nobody knows.
pub(crate) const GOOD: RGBColor = RGBColor(0x17, 0x69, 0x30);
pub(crate) const BAD: RGBColor = RGBColor(0xa8, 0x20, 0x1b);
pub(crate) const WARN: RGBColor = RGBColor(0x7a, 0x52, 0x01);
/// What is dropped on purpose; and what stands by.
pub(crate) const DROP: RGBColor = RGBColor(0x7b, 0x3f, 0xa1);
pub(crate) const SPARE: RGBColor = RGBColor(0x60, 0x60, 0x64);
/// The ground that stands out from the paper, and the paper.
pub(crate) const RAISED: RGBColor = RGBColor(0xf1, 0xf1, 0xef);
pub(crate) const PAPER: RGBColor = RGBColor(0xfc, 0xfc, 0xfa);
/// Units of a drawing that a page scales to its width.
pub const SIZE: (u32, u32) = (720, 260);
pub(crate) const FONT: (&str, u32) = ("sans-serif", 13);

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Places, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Dots instead of a line.
    pub dots: bool,
}

impl Series {
    /// A line through these points.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, dots: false }
    }

    /// A dot at each of these points.
    pub fn dots(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, dots: true }
    }
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What the x axis is.
    pub x: &'static str,
    /// What the y axis is.
    pub y: &'static str,
    /// What is drawn.
    pub series: Vec<Series>,
    /// The y axis grows by factors of ten.
    pub logarithmic: bool,
    /// How a place on the x axis is written.
    pub x_label: fn(f64) -> String,
    /// Width and height.
    pub size: (u32, u32),
}

impl Chart {
    /// As SVG, or as a sentence where there is nothing to draw.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        if points().filter(finite).count() < 2 {
            return "<p class=\"none\">too little was recorded to draw this</p>\n".to_owned();
        }
        let low_x = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let high_x = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let high_x = if high_x > low_x { high_x } else { low_x + 1.0 };
        let high_y = points().map(|point| point.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let mut svg = String::new();
        let drawn = if self.logarithmic {
            let least = points().map(|point| point.1).filter(|y| *y > 0.0);
            let least = least.fold(high_y, f64::min);
            self.draw(&mut svg, low_x..high_x, (least / 1.5..high_y * 1.5).log_scale())
        } else {
            self.draw(&mut svg, low_x..high_x, 0.0..high_y * 1.08)
        };
        // Drawing into a text fails on sizes that leave no room, and these leave some.
        match drawn {
            Ok(()) => self.named(&svg),
            Err(error) => format!("<p class=\"none\">not drawn: {}</p>\n", escaped(&error)),
        }
    }

    /// Whoever does not see the drawing hears what it is of.
    fn named(&self, svg: &str) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let label = escaped(&format!("{} over {}: {}", self.y, self.x, names.join(", ")));
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1)
    }

    fn draw<Y>(&self, svg: &mut String, x: std::ops::Range<f64>, y: Y) -> Result<(), String>
    where
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>
            + plotters::coord::ranged1d::Ranged<ValueType = f64>,
    {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let area = SVGBackend::with_string(svg, self.size).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin(8).x_label_area_size(38).y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(x, y).map_err(|error| told(&error))?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels((self.size.0 as usize / 80).clamp(2, 12))
            .y_labels(6)
            .x_label_formatter(&|x| (self.x_label)(*x))
            .y_label_formatter(&|y| short(*y))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(FONT.into_font().color(&INK))
            .axis_desc_style(FONT.into_font().color(&INK))
            .draw()
            .map_err(|error| told(&error))?;
        for (series, colour) in self.series.iter().zip(SERIES.iter().cycle()) {
            let style = colour.stroke_width(2);
            let points = series.points.iter().copied();
            let drawn = if series.dots {
                chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))
            } else {
                chart.draw_series(LineSeries::new(points, style))
            };
            drawn.map(drop).map_err(|error| told(&error))?;
        }
        area.present().map_err(|error| told(&error))
    }

    /// Names of the series beside their colours, as HTML.
    pub fn legend(&self) -> String {
        let names = self.series.iter().zip((0..SERIES.len()).cycle());
        let items = names.map(|(series, place)| {
            format!("<span class=\"key key-{place}\">{}</span>", escaped(&series.name))
        });
        format!("<p class=\"legend\">{}</p>\n", items.collect::<Vec<_>>().join(" "))
    }
}

/// Bars without axes: how much there was in each part of a length of time.
pub fn strip(values: &[u64], size: (u32, u32)) -> String {
    let most = values.iter().copied().max().unwrap_or(0);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let bar = width / values.len().max(1) as f64;
    let mut drawn = Ok(());
    for (value, place) in values.iter().zip(0_u32..).filter(|(value, _)| **value > 0) {
        let left = f64::from(place) * bar;
        // What happened once is seen beside what happened a million times.
        let share = (1.0 + *value as f64).ln() / (1.0 + most as f64).ln();
        let corners = [
            (left as i32, (height * (1.0 - share)).min(height - 2.0) as i32),
            (((left + bar).max(left + 1.0)) as i32, height as i32),
        ];
        drawn = drawn.and(area.draw(&Rectangle::new(corners, SERIES[0].filled())));
    }
    let drawn = drawn.and(area.present());
    drop(area);
    // Drawing into a text fails on sizes that leave no room, and these leave some.
    if drawn.is_ok() { svg } else { String::new() }
}

/// Text that stands in HTML as it is.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number in few characters: 1.2k, 3.4M.
pub fn short(value: f64) -> String {
    let scales = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let scale = scales.into_iter().find(|(least, _)| value.abs() >= *least);
    let (value, letter) = scale.map_or((value, ""), |(least, letter)| (value / least, letter));
    let text = if value.abs() >= 100.0 || value.fract().abs() < 0.005 && value.abs() >= 0.995 {
        format!("{value:.0}")
    } else if value.abs() >= 1.0 {
        format!("{value:.1}")
    } else {
        // Two digits that count: neighbours on an axis are not to look alike.
        let decimals = (1.0 - value.abs().log10().floor()).clamp(2.0, 9.0) as usize;
        let text = format!("{value:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    text + letter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> Chart {
        let series = vec![Series::line("a < b", points)];
        Chart { x: "ms", y: "n", series, logarithmic, x_label: short, size: SIZE }
    }

    #[test]
    fn a_chart_is_drawn_in_the_colours_that_the_style_replaces() {
        let style = STYLE.to_lowercase();
        for logarithmic in [false, true] {
            let svg = chart(vec![(0.0, 1.0), (10.0, 500.0), (20.0, 3.0)], logarithmic).svg();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("#1F6FB4") && svg.contains("#101011"), "{svg}");
        }
        for colour in SERIES.iter().chain([&INK, &GRID, &GOOD, &BAD, &WARN, &RAISED, &PAPER]) {
            let name = format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2);
            assert!(style.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for points in [vec![], vec![(0.0, 1.0)], vec![(0.0, f64::NAN), (1.0, 2.0)]] {
            assert!(chart(points, false).svg().contains("too little"));
        }
        // All at one place, all the same, all zero.
        for points in [vec![(5.0, 1.0); 3], vec![(0.0, 0.0), (1.0, 0.0)]] {
            for logarithmic in [false, true] {
                assert!(chart(points.clone(), logarithmic).svg().starts_with("<svg"));
            }
        }
    }

    #[test]
    fn names_are_escaped_and_numbers_short() {
        assert!(chart(vec![], false).legend().contains("a &lt; b"));
        let texts = [0.0, 0.25, 0.998, 1.25, 250.0, 1_500.0, 2e6].map(short);
        assert_eq!(texts, ["0", "0.25", "1", "1.2", "250", "1.5k", "2M"]);
        assert_eq!([0.01, 0.014, 0.0096, 1e-12].map(short), ["0.01", "0.014", "0.0096", "0"]);
    }
}

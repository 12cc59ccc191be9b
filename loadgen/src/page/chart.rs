//! Charts as SVG, to stand inside a page.
//!
//! In:   series of points, names of the axes.
//! Out:  an `<svg>` whose colours the page's style replaces, so that it is light, dark or printed.
//! Law:  a chart without points is a sentence that says so; no number is drawn that was not given.
//! Not:  what is charted (`page`).

use plotters::prelude::*;

/// Colours of series, in order. The page's style says what they look like: `page/style.css` names
/// each of them again.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xc2, 0x57, 0x1a),
    RGBColor(0x3a, 0x92, 0x3a),
    RGBColor(0x8a, 0x4f, 0xb0),
    RGBColor(0xb0, 0x3a, 0x5a),
    RGBColor(0x5a, 0x5a, 0x20),
];
const INK: RGBColor = RGBColor(0x10, 0x10, 0x11);
const GRID: RGBColor = RGBColor(0xd0, 0xd0, 0xd1);
/// Units of the drawing; the page scales it to its width.
const SIZE: (u32, u32) = (720, 260);
const FONT: (&str, u32) = ("sans-serif", 13);

/// One line of a chart.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Dots instead of a line.
    pub(super) dots: bool,
}

impl Series {
    pub(super) fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, dots: false }
    }

    pub(super) fn dots(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, dots: true }
    }
}

/// A chart.
pub(super) struct Chart {
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) series: Vec<Series>,
    /// The y axis grows by factors of ten.
    pub(super) logarithmic: bool,
    /// How a place on the x axis is written.
    pub(super) x_label: fn(f64) -> String,
}

impl Chart {
    /// As SVG, or as a sentence where there is nothing to draw.
    pub(super) fn svg(&self) -> String {
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
            Ok(()) => svg,
            Err(error) => format!("<p class=\"none\">not drawn: {}</p>\n", super::escaped(&error)),
        }
    }

    fn draw<Y>(&self, svg: &mut String, x: std::ops::Range<f64>, y: Y) -> Result<(), String>
    where
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>
            + plotters::coord::ranged1d::Ranged<ValueType = f64>,
    {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin(8).x_label_area_size(38).y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(x, y).map_err(|error| told(&error))?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(9)
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
    pub(super) fn legend(&self) -> String {
        let names = self.series.iter().zip((0..SERIES.len()).cycle());
        let items = names.map(|(series, place)| {
            format!("<span class=\"key key-{place}\">{}</span>", super::escaped(&series.name))
        });
        format!("<p class=\"legend\">{}</p>\n", items.collect::<Vec<_>>().join(" "))
    }
}

/// A number in few characters: 1.2k, 3.4M.
pub(super) fn short(value: f64) -> String {
    let scales = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let scale = scales.into_iter().find(|(least, _)| value.abs() >= *least);
    let (value, letter) = scale.map_or((value, ""), |(least, letter)| (value / least, letter));
    let text = if value.abs() >= 100.0 || value.fract().abs() < 0.005 {
        format!("{value:.0}")
    } else if value.abs() >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    text + letter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> Chart {
        let series = vec![Series::line("a < b", points)];
        Chart { x: "ms", y: "n", series, logarithmic, x_label: short }
    }

    #[test]
    fn a_chart_is_drawn_in_the_colours_that_the_style_replaces() {
        let style = include_str!("style.css").to_lowercase();
        for logarithmic in [false, true] {
            let svg = chart(vec![(0.0, 1.0), (10.0, 500.0), (20.0, 3.0)], logarithmic).svg();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("#1F6FB4") && svg.contains("#101011"), "{svg}");
        }
        for colour in SERIES.iter().chain([&INK, &GRID]) {
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
        let texts = [0.0, 0.25, 1.25, 250.0, 1_500.0, 2e6].map(short);
        assert_eq!(texts, ["0", "0.25", "1.2", "250", "1.5k", "2M"]);
    }
}

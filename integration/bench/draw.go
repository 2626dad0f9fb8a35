package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// picture is a plot of the results, as PNG and SVG.
type picture struct {
	file, title string
	draw        func(*Results) (*plot.Plot, error) // nil: nothing was measured
}

var pictures = []picture{
	{"layers", "What each layer adds to a call", drawLayers},
	{"upstreams", "Cost of a call by the number of upstreams", curves("upstreams", "upstreams", "us", 1e3,
		"one of them", "a call, one of", "each in turn", "calls to", "finding two policies", "finding")},
	{"processes", "Cost of a host-wide permit by the number of processes attached", curves("processes", "processes", "ns", 1, "acquire and release", "a permit")},
	{"inflight", "Cost of a call by the number of calls in flight", curves("in flight", "calls in flight", "us", 1e3, "host-wide limits", "a call while")},
	{"handover", "Hand-over of one contended permit between two processes", drawHandOver},
	{"agent", "What a grant takes the agent, by the number of processes on the limit (without messages)",
		curves(partGrants, "processes", "us", 1e3, "a permit taken back and granted", "a permit taken back")},
}

// available are the pictures that the results have something for.
func available(r *Results) ([]picture, error) {
	var out []picture
	for _, p := range pictures {
		drawn, err := p.draw(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.file, err)
		}
		if drawn != nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// draw writes the pictures and returns them.
func draw(r *Results, docs string) ([]picture, error) {
	all, err := available(r)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		drawn, err := p.draw(r)
		if err != nil {
			return nil, err
		}
		drawn.Title.Text = p.title
		drawn.Title.Padding = vg.Points(6)
		for _, kind := range []string{".png", ".svg"} {
			if err := drawn.Save(18*vg.Centimeter, 10*vg.Centimeter, filepath.Join(docs, p.file+kind)); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// curves draws medians over X, on a logarithmic axis; lines are pairs of a
// legend and how its series' names begin.
func curves(part, x, y string, per float64, lines ...string) func(*Results) (*plot.Plot, error) {
	return func(r *Results) (*plot.Plot, error) {
		p := plot.New()
		p.X.Label.Text, p.Y.Label.Text = x, y
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min = 0
		found := false
		for i := 0; i < len(lines); i += 2 {
			var points plotter.XYs
			for _, s := range r.part(part) {
				if s.X > 0 && strings.HasPrefix(s.Name, lines[i+1]) {
					points = append(points, plotter.XY{X: s.X, Y: s.median() / per})
				}
			}
			if len(points) < 2 {
				continue
			}
			found = true
			if err := addLine(p, i/2, lines[i], points, true); err != nil {
				return nil, err
			}
		}
		if !found {
			return nil, nil
		}
		p.Y.Max *= 1.3 // room for the legend
		p.Legend.Top = true
		return p, nil
	}
}

func addLine(p *plot.Plot, color int, name string, points plotter.XYs, marked bool) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = plotutil.Color(color), vg.Points(1.5)
	p.Add(line)
	if marked {
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		dots.Color = plotutil.Color(color)
		p.Add(dots)
	}
	p.Legend.Add(name, line)
	return nil
}

func drawLayers(r *Results) (*plot.Plot, error) {
	all := r.part("layers")
	if len(all) < 2 {
		return nil, nil
	}
	var over plotter.Values
	var names []string
	for i := range all[1:] {
		s := &all[len(all)-1-i] // the first on top
		over = append(over, s.median()-all[0].median())
		names = append(names, s.Name)
	}
	p := plot.New()
	bars, err := plotter.NewBarChart(over, vg.Points(18))
	if err != nil {
		return nil, err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, plotutil.Color(1), 0
	p.Add(bars)
	p.NominalY(names...)
	p.X.Label.Text, p.X.Min = "ns over the bare base, with all layers above", 0
	p.X.Max *= 1.05
	return p, nil
}

func drawHandOver(r *Results) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "us from giving back to having", "part of the hand-overs"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	n := 0
	for _, s := range r.part("hand-over") {
		held, ok := strings.CutPrefix(s.Name, "distribution, ")
		if !ok {
			continue
		}
		points := make(plotter.XYs, len(s.Values))
		for i, v := range s.Values {
			points[i] = plotter.XY{X: max(v, 1) / 1e3, Y: float64(i) / 100}
		}
		if err := addLine(p, n, held, points, false); err != nil {
			return nil, err
		}
		n++
	}
	if n == 0 {
		return nil, nil
	}
	p.Legend.Top, p.Legend.Left = true, true
	return p, nil
}

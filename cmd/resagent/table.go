package main

// column is one of a table of rows of type T.
type column[T any] struct {
	head  string
	right bool // numbers
	least int  // columns it may be cut to; 0: it is never cut
	rank  int  // where there is too little room the highest goes first; 0: never
	cell  func(T) piece
	// before orders rows by this column, in the order that is asked for first.
	// Nil: nobody sorts by it.
	before func(a, b T) int
}

const gap = 2 // columns between two of a table

// layout says which columns there is room for, and how wide each is; -1: it is
// left out. width 0: there is room for all.
func layout[T any](all []column[T], cells [][]piece, width int) []int {
	wide := make([]int, len(all))
	for i, c := range all {
		wide[i] = columnsOf(c.head)
		for _, row := range cells {
			wide[i] = max(wide[i], columnsOf(row[i].text))
		}
	}
	if width <= 0 {
		return wide
	}
	need := func() int { // with all that can be cut as narrow as can be
		n := -gap
		for i, c := range all {
			switch {
			case wide[i] < 0:
			case c.least > 0:
				n += gap + min(wide[i], c.least)
			default:
				n += gap + wide[i]
			}
		}
		return n
	}
	for need() > width {
		out := -1
		for i, c := range all {
			if wide[i] >= 0 && c.rank > 0 && (out < 0 || c.rank > all[out].rank) {
				out = i
			}
		}
		if out < 0 {
			break
		}
		wide[out] = -1
	}
	spare := max(0, width-need())
	for i, c := range all {
		if least := min(wide[i], c.least); wide[i] >= 0 && c.least > 0 {
			more := min(spare, wide[i]-least)
			wide[i] = least + more
			spare -= more
		}
	}
	return wide
}

// tabulate makes a table: its head, and a line for each row. sorted is the
// column that the rows are in order of; -1: none is marked.
func tabulate[T any](all []column[T], rows []T, width, sorted int, backwards bool) (head line, body []line) {
	cells := make([][]piece, len(rows))
	for i, row := range rows {
		for _, c := range all {
			cells[i] = append(cells[i], c.cell(row))
		}
	}
	if sorted >= 0 {
		all = append([]column[T](nil), all...)
		all[sorted].head += map[bool]string{false: "▾", true: "▴"}[backwards]
	}
	wide := layout(all, cells, width)
	render := func(of func(i int) piece) (l line) {
		for i := range all {
			if wide[i] < 0 {
				continue
			}
			if l != nil {
				l = append(l, piece{text: "  "})
			}
			p := of(i)
			l = append(l, piece{pad(fit(p.text, wide[i]), wide[i], all[i].right), p.style})
		}
		return l.fit(width)
	}
	head = render(func(i int) piece { return piece{all[i].head, bold} })
	for _, row := range cells {
		body = append(body, render(func(i int) piece { return row[i] }))
	}
	return head, body
}

package tidemill

import "iter"

// GroupRows is the rows that a key has in one input, each with what it takes to reject it.
type GroupRows[T any] = iter.Seq2[RowID, T]

// Grouped is the rows of one input, cut into groups: for the packages of roles.
type Grouped[T any] struct {
	rows  Rows[T]
	ends  []uint32
	input uint32
	group int
	row   T
	seq   GroupRows[T]
}

// GroupedOf cuts rows into groups: ends[i] is the exclusive end of group i.
func GroupedOf[T any](rows Rows[T], ends []uint32, input int) *Grouped[T] {
	g := &Grouped[T]{rows: rows, ends: ends, input: uint32(input)}
	g.seq = g.all
	return g
}

// Range gives where the rows of the group begin and end.
func (g *Grouped[T]) Range() (start, end int) {
	if g.group > 0 {
		start = int(g.ends[g.group-1])
	}
	return start, int(g.ends[g.group])
}

func (g *Grouped[T]) all(yield func(RowID, T) bool) {
	start, end := g.Range()
	for i := start; i < end; i++ {
		if g.rows.mayBeNull && g.rows.NullColumn(i) != "" {
			continue
		}
		if g.rows.Read(i, &g.row); !yield(RowID{g.input, uint32(i)}, g.row) {
			return
		}
	}
}

// Go goes to a group, and gives its rows that can be read. The others are rejected; `n` is how many are left, of `of`. With a
// reason all are.
func Go[T, O any](g *Grouped[T], group int, reason string, out *Emitter[O]) (rows GroupRows[T], n, of int) {
	g.group = group
	start, end := g.Range()
	n, of = end-start, end-start
	if reason != "" {
		for i := start; i < end; i++ {
			out.Reject(RowID{g.input, uint32(i)}, "%s", reason)
		}
		return g.seq, 0, of
	}
	if g.rows.mayBeNull {
		for i := start; i < end; i++ {
			if name := g.rows.NullColumn(i); name != "" {
				out.Reject(RowID{g.input, uint32(i)}, "column `%s` is null", name)
				n--
			}
		}
	}
	return g.seq, n, of
}

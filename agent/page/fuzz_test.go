package page

import "testing"

// FuzzCell runs a program of operations, two bytes each, against the model.
func FuzzCell(f *testing.F) {
	f.Add([]byte{4, 3, 0, 1, 1, 1, 6, 2, 7, 0})
	f.Add([]byte{4, 200, 0, 7, 3, 7, 2, 9, 5, 1, 9, 0, 1, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		var c Cell
		epoch := uint16(1)
		c.Open(epoch)
		model := Word{Epoch: epoch}
		target := 0
		for i := 0; i+1 < len(program); i += 2 {
			code, n := int(program[i]), int(program[i+1])
			if n >= 250 {
				n = Max - (255 - n) // near the end of a field
			}
			switch code %= len(operations) + 2; code {
			case len(operations):
				target = n
				c.SetTarget(model.Epoch, n)
			case len(operations) + 1:
				epoch = max(1, epoch+1)
				c.Open(epoch)
				model, target = Word{Epoch: epoch}, 0
			default:
				op := operations[code]
				use := model.Epoch
				if program[i]&0x80 != 0 {
					use-- // a holder of the earlier epoch
				}
				goal := target
				if use != model.Epoch {
					goal = 0
				}
				want, next := op.model(model, use, n, goal)
				if got := op.cell(&c, use, n); got != want {
					t.Fatalf("%s(%d, %d) of %+v: %d, want %d", op.name, use, n, model, got, want)
				}
				model = next
			}
			if got := c.Read(); got != model {
				t.Fatalf("cell %+v, model %+v", got, model)
			}
		}
	})
}

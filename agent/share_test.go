package agent

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive fills unit by unit: each round one to every user that wants more, as
// long as there is a whole round; the same in each user between its claims.
func naive(limit, perUser int, claims []claim) []int {
	pour := func(limit int, demands []int) []int {
		parts := make([]int, len(demands))
		for {
			var open []int
			for i, d := range demands {
				if parts[i] < d {
					open = append(open, i)
				}
			}
			if len(open) == 0 || limit < len(open) {
				return parts
			}
			for _, i := range open {
				parts[i]++
				limit--
			}
		}
	}
	var uids []int
	for _, c := range claims {
		if !slices.Contains(uids, c.uid) {
			uids = append(uids, c.uid)
		}
	}
	demands := make([]int, len(uids))
	for k, uid := range uids {
		for _, c := range claims {
			if c.uid == uid {
				demands[k] += c.demand
			}
		}
		demands[k] = min(demands[k], perUser)
	}
	shares := make([]int, len(claims))
	for k, part := range pour(limit, demands) {
		var mine, wants []int
		for i, c := range claims {
			if c.uid == uids[k] {
				mine, wants = append(mine, i), append(wants, c.demand)
			}
		}
		for j, part := range pour(part, wants) {
			shares[mine[j]] = part
		}
	}
	return shares
}

func someClaims(t *rapid.T) []claim {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) claim {
		return claim{uid: rapid.IntRange(0, 4).Draw(t, "uid"), demand: rapid.IntRange(0, 30).Draw(t, "demand")}
	}), 0, 20).Draw(t, "claims")
}

// Shares are what filling unit by unit gives: max-min fair between users, then
// between the processes of a user.
func TestSharesAreMaxMin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(-3, 100).Draw(t, "limit")
		perUser := rapid.IntRange(0, 100).Draw(t, "perUser")
		claims := someClaims(t)
		if got, want := fairShares(limit, perUser, claims), naive(limit, perUser, claims); !slices.Equal(got, want) {
			t.Fatalf("shares %v, filled unit by unit %v", got, want)
		}
	})
}

// Never above the limit, a user's bound, or a demand.
func TestSharesStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 1<<24).Draw(t, "limit")
		perUser := rapid.IntRange(0, 1<<24).Draw(t, "perUser")
		claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) claim {
			return claim{uid: rapid.IntRange(0, 9).Draw(t, "uid"), demand: rapid.IntRange(0, 1<<24).Draw(t, "demand")}
		}), 0, 50).Draw(t, "claims")
		shares := fairShares(limit, perUser, claims)
		sum, users := 0, map[int]int{}
		for i, s := range shares {
			if s < 0 || s > claims[i].demand {
				t.Fatalf("share %d of a demand of %d", s, claims[i].demand)
			}
			sum += s
			users[claims[i].uid] += s
		}
		if sum > limit {
			t.Fatalf("%d shared of %d", sum, limit)
		}
		for uid, n := range users {
			if n > perUser {
				t.Fatalf("user %d has %d, at most %d", uid, n, perUser)
			}
		}
	})
}

// Who asks for less than an even part gets all of it, whatever others ask.
func TestModestDemandIsMet(t *testing.T) {
	got := fairShares(100, 100, []claim{{1, 1000}, {2, 10}, {3, 1000}, {3, 5}})
	if want := []int{45, 10, 40, 5}; !slices.Equal(got, want) {
		t.Errorf("shares %v, want %v", got, want)
	}
}

// Starting more processes gains a user nothing.
func TestForkingGainsNothing(t *testing.T) {
	claims := []claim{{1, 100}}
	for range 50 {
		claims = append(claims, claim{2, 100})
	}
	if got := fairShares(100, 100, claims); got[0] != 50 {
		t.Errorf("one process of one user gets %d of 100 beside 50 of another, want 50", got[0])
	}
}

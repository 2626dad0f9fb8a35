package agent

import (
	"cmp"
	"slices"
)

// claim is one process's demand on a limit.
type claim struct {
	uid    int // its user, for fairness between users first
	demand int // what it uses and waits for
}

// fairShares divides limit between claims: max-min fair between users, then
// between the processes of a user, so that starting more processes gains a
// user nothing. No user gets more than perUser. What is left because shares
// are whole numbers is not given out here; the caller hands it round.
// The result has a share for each claim, never above its demand.
// Source: Bertsekas and Gallager, Data Networks, 6.5.2 (max-min flow control).
func fairShares(limit, perUser int, claims []claim) []int {
	users := make(map[int][]int)
	var uids []int
	for i, c := range claims {
		if users[c.uid] == nil {
			uids = append(uids, c.uid)
		}
		users[c.uid] = append(users[c.uid], i)
	}
	demands := make([]int, len(uids))
	for k, uid := range uids {
		for _, i := range users[uid] {
			demands[k] = min(demands[k]+claims[i].demand, perUser)
		}
	}
	shares := make([]int, len(claims))
	for k, part := range fill(limit, demands) {
		mine := users[uids[k]]
		demands := make([]int, len(mine))
		for j, i := range mine {
			demands[j] = claims[i].demand
		}
		for j, part := range fill(part, demands) {
			shares[mine[j]] = part
		}
	}
	return shares
}

// fill pours limit into demands so that no part can grow without a smaller
// one shrinking, in whole units: equal parts round down.
func fill(limit int, demands []int) []int {
	order := make([]int, len(demands))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(demands[a], demands[b]) })
	parts := make([]int, len(demands))
	left := max(limit, 0)
	for k, i := range order {
		level := left / (len(order) - k)
		if demands[i] > level {
			// Nobody from here on can have all it wants.
			for _, i := range order[k:] {
				parts[i] = level
			}
			break
		}
		parts[i] = demands[i]
		left -= parts[i]
	}
	return parts
}

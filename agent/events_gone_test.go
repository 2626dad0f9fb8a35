//go:build linux

package agent

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/page"
)

// Events that are gone are told of before the next one that is there, whether
// the caller follows or not.
func TestEventsTellWhatIsGone(t *testing.T) {
	a := new(Agent)
	for range keptEvents + 5 {
		a.events.add(Event{Kind: SessionBegan})
	}
	a.events.add(Event{Kind: Reload})
	for range keptEvents + 3 {
		a.events.add(Event{Kind: CircuitOpened})
	}
	a.events.close()                                       // so that following ends
	for query, want := range map[string]map[uint64]uint64{ // ID to missed
		"":          {6: 5, keptEvents + 10: 3},
		"since=2":   {6: 3, keptEvents + 10: 3},
		"since=519": {keptEvents + 10: 2},
	} {
		plain := httptest.NewRecorder()
		a.eventsAfter(plain, httptest.NewRequest("GET", "/v1/events?"+query, nil))
		var answer struct{ Events []Event }
		if err := json.Unmarshal(plain.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		followed := httptest.NewRecorder()
		a.eventsAfter(followed, httptest.NewRequest("GET", "/v1/events?follow=1&"+query, nil))
		var lines []Event
		for in := json.NewDecoder(strings.NewReader(followed.Body.String())); in.More(); {
			var one Event
			if err := in.Decode(&one); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, one)
		}
		for how, got := range map[string][]Event{"plain": answer.Events, "followed": lines} {
			missed := map[uint64]uint64{}
			for _, one := range got {
				if one.Missed > 0 {
					missed[one.ID] = one.Missed
				}
			}
			if !maps.Equal(missed, want) {
				t.Errorf("%s, %q: missed %v, want %v", how, query, missed, want)
			}
		}
	}
}

// Whose circuits change all the time does not push out what is told of others'.
func TestEventsOfOthersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := emptyTown(t, 2)
		w.open(w.all[0], house(0))
		w.open(w.all[1], house(1))
		change := func(i int) {
			w.a.circuits.all[house(i)].change(page.CircuitOpen, time.Minute, w.a.now(), "test")
		}
		change(0)
		for range 2 * keptEvents {
			change(1)
		}
		found, _ := w.a.events.after(0)
		if n := len(found); n != keptEvents || !strings.Contains(found[0].Text, house(0).authority) || found[1].Missed != keptEvents+1 {
			t.Errorf("%d events, the first two %+v; want %d, and the other user's first", n, found[:2], keptEvents)
		}
	})
}

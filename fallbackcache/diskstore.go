package fallbackcache

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

// load reads the variants of one URI and audience, the oldest first.
func (d *disk) load(uri string, who audience) []*entry {
	shard, prefix := d.groupName(uri, who)
	names, err := d.names(shard, prefix)
	if err != nil {
		d.counts.failed(err)
		return nil
	}
	var out []*entry
	for _, name := range names {
		if len(name) != entryDigits || len(out) >= 2*maxVariants {
			continue
		}
		e, err := d.read(shard, name)
		switch {
		case err == nil:
			if e.uri == uri && e.who == who {
				out = append(out, e)
			}
		case !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist):
			d.counts.failed(err)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int {
		if newer(a, b) {
			return 1
		}
		return -1
	})
	return out
}

// outcome of a store.
type putResult uint8

const (
	putDone    putResult = iota
	putRefused           // there is a newer one, or what was asked for has been changed since
	putFailed            // no room, no lock, an error
)

// put stores e in place of those of the entries in over that are there, unless
// a newer one is, or the URI was dropped since drops. It returns the group as
// it is now, and the shard's state to which that belongs.
func (d *disk) put(e *entry, over []*entry, drops uint64) (group []*entry, at change, result putResult) {
	now := time.Now().UnixNano()
	if d.rest.Load() > now {
		return nil, at, putFailed
	}
	if !d.hold(lockWait) {
		d.counts.busy.Add(1)
		d.rest.Store(now + int64(lockRest))
		return nil, at, putFailed
	}
	defer d.let()
	group, result, err := d.putLocked(e, over, drops)
	if err != nil {
		d.counts.failed(err)
		d.rest.Store(now + int64(lockRest))
		return nil, at, putFailed
	}
	shard, _ := d.uriName(e.uri)
	at, ok := d.changed(shard)
	if !ok {
		return nil, at, putFailed
	}
	return group, at, result
}

func (d *disk) putLocked(e *entry, over []*entry, drops uint64) ([]*entry, putResult, error) {
	shard, _ := d.uriName(e.uri)
	if at, ok := d.changed(shard); !ok || at.drops != drops {
		return nil, putRefused, nil
	}
	kept, gone, ok := merge(d.load(e.uri, e.who), e, func(old *entry) bool {
		return slices.ContainsFunc(over, old.sameVariant)
	})
	if !ok {
		return nil, putRefused, nil
	}
	text := d.encode(e)
	size := charge(int64(len(text)))
	if size > d.maxBytes/2 || int64(len(text)) > d.maxFile {
		return nil, putFailed, nil
	}
	if err := d.makeRoom(size); err != nil {
		return nil, putFailed, err
	}
	name := d.entryName(e)
	var replaced int64 // what the file of this name is charged for
	for _, old := range gone {
		if oldName := d.entryName(old); oldName != name {
			if err := d.unlinkNamed(shard, oldName); err != nil {
				return nil, putFailed, err
			}
		} else if info, err := d.root.Lstat(path(shard, name)); err == nil {
			replaced = charge(info.Size())
		}
	}
	if err := d.writeNew(text); err != nil {
		_ = d.root.Remove(newFile)
		return nil, putFailed, err
	}
	if err := d.mkdir(d.root, shardName(shard)); err != nil {
		return nil, putFailed, err
	}
	if err := d.add(shard, size, 1); err != nil {
		return nil, putFailed, err
	}
	if err := d.root.Rename(newFile, path(shard, name)); err != nil {
		return nil, putFailed, errors.Join(err, d.add(shard, -size, -1))
	}
	if replaced > 0 {
		if err := d.add(shard, -replaced, -1); err != nil {
			return nil, putFailed, err
		}
	}
	// A removal that could not have the lock goes on without it. It says so
	// before it looks for files, so one of the two sees the other.
	if at, ok := d.changed(shard); !ok || at.drops != drops {
		return nil, putRefused, d.unlink(shard, name, size)
	}
	d.counts.stored.Add(1)
	return kept, putDone, d.note(shard, notePut)
}

// merge puts e among the variants of its group, which are given oldest first.
// Ok is false where a newer one is there already. A variant that e supersedes
// or replaces is gone.
func merge(group []*entry, e *entry, superseded func(*entry) bool) (kept, gone []*entry, ok bool) {
	for _, old := range group {
		switch {
		case !superseded(old) && !old.sameVariant(e):
			kept = append(kept, old)
		case newer(old, e):
			return nil, nil, false
		default:
			gone = append(gone, old)
		}
	}
	kept = append(kept, e)
	for len(kept) > maxVariants {
		gone = append(gone, kept[0])
		kept = kept[1:]
	}
	return kept, gone, true
}

// remove takes out the given variants of a URI and audience. It must not fail
// quietly: what cannot be removed must not be given.
func (d *disk) remove(uri string, who audience, gone []*entry) {
	shard, _ := d.uriName(uri)
	unlink, let := d.unlinker(shard)
	defer let()
	for _, e := range gone {
		unlink(d.entryName(e))
	}
	d.settle(shard, notePut)
}

// drop takes out all that is stored for a URI, whoever may see it.
func (d *disk) drop(uri string) {
	shard, prefix := d.uriName(uri)
	unlink, let := d.unlinker(shard)
	defer let()
	d.settle(shard, noteDrop)
	names, err := d.names(shard, prefix)
	if err != nil {
		d.fail(err)
	}
	for _, name := range names {
		unlink(name)
	}
}

// unlinker removes files under the lock if it can be had soon, else without:
// then the account is put right when the shard's turn comes.
func (d *disk) unlinker(shard int) (unlink func(name string), let func()) {
	remove, let := d.unlinkNamed, d.let
	if !d.hold(dropWait) {
		remove = func(shard int, name string) error { return d.root.Remove(path(shard, name)) }
		let = func() {}
	}
	return func(name string) {
		if err := remove(shard, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.fail(err)
		}
	}, let
}

// settle tells other processes of a change to a shard.
func (d *disk) settle(shard, field int) {
	if err := d.note(shard, field); err != nil {
		d.fail(err)
	}
}

package fallbackcache

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

// load reads the variants of one URI and audience, the oldest first.
func (d *disk) load(uri string, who audience) []*entry {
	shard, name := d.fileName(uri, who)
	group, err := d.read(shard, name)
	if err != nil {
		if !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist) {
			d.counts.failed(err)
		}
		return nil
	}
	slices.SortFunc(group, func(a, b *entry) int {
		if newer(a, b) {
			return 1
		}
		return -1
	})
	return group
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
// it is now, and the URI's state to which that belongs.
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
	group, puts, result, err := d.putLocked(e, over, drops)
	if err != nil {
		d.counts.failed(err)
		d.rest.Store(now + int64(lockRest))
		return nil, at, putFailed
	}
	return group, change{drops, puts}, result
}

func (d *disk) putLocked(e *entry, over []*entry, drops uint64) (group []*entry, puts uint64, result putResult, err error) {
	if d.droppedSince(e.uri, drops) {
		return nil, 0, putRefused, nil
	}
	kept, ok := merge(d.load(e.uri, e.who), e, func(old *entry) bool {
		return slices.ContainsFunc(over, old.sameVariant)
	})
	if !ok {
		return nil, 0, putRefused, nil
	}
	text := d.encode(kept)
	for len(kept) > 1 && int64(len(text)) > d.maxFile {
		kept = kept[1:]
		text = d.encode(kept)
	}
	if charge(int64(len(text))) > d.maxBytes/2 || int64(len(text)) > d.maxFile {
		return nil, 0, putFailed, nil
	}
	shard, name := d.fileName(e.uri, e.who)
	if err := d.replace(shard, name, text); err != nil {
		return nil, 0, putFailed, err
	}
	if puts, err = d.note(e.uri, notePut); err != nil {
		return nil, 0, putFailed, errors.Join(err, d.unlink(shard, name))
	}
	// A removal that could not have the lock goes on without it. It says so
	// before it looks for files, so one of the two sees the other.
	if d.droppedSince(e.uri, drops) {
		err := d.unlink(shard, name)
		d.settle(e.uri, notePut)
		return nil, 0, putRefused, err
	}
	d.counts.stored.Add(1)
	return kept, puts, putDone, nil
}

// replace writes a file, in the place of one that may be there. The lock must
// be held.
func (d *disk) replace(shard int, name string, text []byte) error {
	size := charge(int64(len(text)))
	if err := d.makeRoom(size); err != nil {
		return err
	}
	if err := d.writeNew(text); err != nil {
		_ = d.root.RemoveAll(newFile) // whatever that is; the next store begins anew
		return err
	}
	var replaced used
	if info, err := d.root.Lstat(path(shard, name)); err == nil {
		replaced = used{charge(info.Size()), 1}
	}
	if err := d.add(shard, used{size, 1}); err != nil {
		return err
	}
	err := d.root.Rename(newFile, path(shard, name))
	if err != nil { // the first of its shard, or something else is in the folder's place
		if info, gone := d.root.Lstat(shardName(shard)); gone == nil && !info.IsDir() {
			_ = d.root.Remove(shardName(shard))
		}
		if err = d.mkdir(d.root, shardName(shard)); err == nil {
			err = d.root.Rename(newFile, path(shard, name))
		}
	}
	if err != nil {
		return errors.Join(err, d.add(shard, used{-size, -1}))
	}
	if replaced.files == 0 {
		return nil
	}
	return d.add(shard, used{-replaced.bytes, -1})
}

// merge puts e among the variants of its group, which are given oldest first.
// Ok is false where a newer one is there already. A variant that e supersedes
// or replaces is gone.
func merge(group []*entry, e *entry, superseded func(*entry) bool) (kept []*entry, ok bool) {
	for _, old := range group {
		switch {
		case !superseded(old) && !old.sameVariant(e):
			kept = append(kept, old)
		case newer(old, e) && !ahead(old, e):
			return nil, false
		}
	}
	kept = append(kept, e)
	return kept[max(0, len(kept)-maxVariants):], true
}

// remove takes out the given variants of a URI and audience. It must not fail
// quietly: what cannot be removed must not be given. Without the lock, or room
// for what is left, all variants go.
func (d *disk) remove(uri string, who audience, gone []*entry) {
	locked := d.hold(dropWait)
	drops := d.settle(uri, noteDrop) // who has the lock may be about to write them again
	if locked {
		d.removeLocked(uri, who, gone, drops)
		d.let()
	} else {
		d.mustGo(d.root.Remove(path(d.fileName(uri, who))))
	}
	d.settle(uri, notePut)
}

// removeLocked leaves the other variants, unless the URI was dropped since drops by
// one who could not have the lock: as for putLocked, one of the two sees the other.
func (d *disk) removeLocked(uri string, who audience, gone []*entry, drops uint64) {
	shard, name := d.fileName(uri, who)
	left := slices.DeleteFunc(d.load(uri, who), func(e *entry) bool { return slices.ContainsFunc(gone, e.sameVariant) })
	if len(left) == 0 || d.replace(shard, name, d.encode(left)) != nil || d.droppedSince(uri, drops) {
		d.mustGo(d.unlink(shard, name))
	}
}

// drop takes out all that is stored for a URI, whoever may see it. Without the
// lock the account is put right when the shard's turn comes. It is told before,
// to those who store, and after, to those who have read what was still there.
func (d *disk) drop(uri string) {
	unlink := d.unlink
	if d.hold(dropWait) {
		defer d.let()
	} else {
		unlink = func(shard int, name string) error { return d.root.Remove(path(shard, name)) }
	}
	d.settle(uri, noteDrop)
	shard, names, err := d.names(uri)
	d.mustGo(err)
	for _, name := range names {
		d.mustGo(unlink(shard, name))
	}
	d.settle(uri, notePut)
}

// mustGo takes the error of a removal.
func (d *disk) mustGo(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.fail(err)
	}
}

// settle tells other processes of a change to a URI, and returns its number.
func (d *disk) settle(uri string, field int64) uint64 {
	number, err := d.note(uri, field)
	if err != nil {
		d.fail(err)
	}
	return number
}

// droppedSince tells whether a URI may have been dropped since drops was read or
// written.
func (d *disk) droppedSince(uri string, drops uint64) bool {
	at, ok := d.changed(uri)
	return !ok || at.drops != drops
}

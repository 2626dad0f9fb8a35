package fallbackcache

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// The account of what lies in each shard: bytes, files, and a check of both.
// It is raised before a file gets its name and lowered after it has gone, by
// whoever holds the lock, so a process that dies in between leaves it too
// high, never too low. A sweep puts a shard's account right.
const usageSize = 24

// used is one shard's account, or the sum of all.
type used struct{ bytes, files int64 }

func (u used) check() uint64 {
	return 0x9e3779b97f4a7c15 ^ uint64(u.bytes)*0xff51afd7ed558ccd ^ uint64(u.files)*0xc4ceb9fe1a85ec53
}

// charge is what a file of n bytes takes on the disk, as far as one can tell.
func charge(n int64) int64 { return (n + 4095) &^ 4095 }

func (d *disk) openUsage() error {
	if info, err := d.usage.Stat(); err != nil || info.Size() == shards*usageSize {
		return err
	}
	if err := d.usage.Truncate(shards * usageSize); err != nil {
		return err
	}
	for shard := range shards {
		if _, err := d.recount(shard); err != nil {
			return err
		}
	}
	return nil
}

func readUsed(b []byte) (u used, ok bool) {
	u.bytes, u.files = int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	return u, u.check() == binary.BigEndian.Uint64(b[16:]) && u.bytes >= 0 && u.files >= 0
}

func (d *disk) setUsed(shard int, u used) error {
	var b [usageSize]byte
	u = used{max(0, u.bytes), max(0, u.files)}
	binary.BigEndian.PutUint64(b[:], uint64(u.bytes))
	binary.BigEndian.PutUint64(b[8:], uint64(u.files))
	binary.BigEndian.PutUint64(b[16:], u.check())
	_, err := d.usage.WriteAt(b[:], int64(shard)*usageSize)
	return err
}

// filesIn tells how many files a shard has, if its account can be read.
func (d *disk) filesIn(shard int) (n int64, known bool) {
	var b [usageSize]byte
	if _, err := d.usage.ReadAt(b[:], int64(shard)*usageSize); err != nil {
		return 0, false
	}
	u, ok := readUsed(b[:])
	return u.files, ok
}

// accounts reads all shards; one whose account is damaged is counted. The
// lock must be held, as for all that follows.
func (d *disk) accounts() (each [shards]used, all used, err error) {
	b := make([]byte, shards*usageSize)
	if _, err := d.usage.ReadAt(b, 0); err != nil {
		return each, all, err
	}
	for shard := range shards {
		u, ok := readUsed(b[shard*usageSize:])
		if !ok {
			files, err := d.recount(shard)
			if err != nil {
				return each, all, err
			}
			u = sumOf(files)
		}
		each[shard] = u
		all.bytes += u.bytes
		all.files += u.files
	}
	return each, all, nil
}

// total is the sum of all accounts that can be read. It takes no lock.
func (d *disk) total() (files, bytes int64) {
	b := make([]byte, shards*usageSize)
	if _, err := d.usage.ReadAt(b, 0); err != nil {
		return 0, 0
	}
	for shard := range shards {
		if u, ok := readUsed(b[shard*usageSize:]); ok {
			files, bytes = files+u.files, bytes+u.bytes
		}
	}
	return files, bytes
}

// add changes a shard's account.
func (d *disk) add(shard int, more used) error {
	var b [usageSize]byte
	if _, err := d.usage.ReadAt(b[:], int64(shard)*usageSize); err != nil {
		return err
	}
	u, ok := readUsed(b[:])
	if !ok {
		found, err := d.recount(shard)
		if err != nil {
			return err
		}
		u = sumOf(found)
	}
	return d.setUsed(shard, used{u.bytes + more.bytes, u.files + more.files})
}

// stored is one file of a shard.
type stored struct {
	shard int
	name  string
	size  int64 // as charged
	last  time.Time
}

func sumOf(files []stored) (u used) {
	for _, f := range files {
		u.bytes += f.size
		u.files++
	}
	return u
}

// recount looks at all files of a shard and writes its account. What cannot
// be an entry is removed.
func (d *disk) recount(shard int) (files []stored, err error) {
	dir, err := d.root.Open(shardName(shard))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.setUsed(shard, used{})
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		info, err := one.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(one.Name()) != nameDigits || !info.Mode().IsRegular() || info.Size() < int64(fileHead) {
			d.discard(shard, one.Name())
			continue
		}
		files = append(files, stored{shard, one.Name(), charge(info.Size()), info.ModTime()})
	}
	return files, d.setUsed(shard, sumOf(files))
}

// A process counts a shard anew after so many of its stores, or a quarter as
// many as the last one had files: so what was counted wrongly, or left by
// others, does not stay, and a store pays for few looks.
const sweepEvery = 16

// makeRoom evicts until so many bytes and one file more are within bounds:
// what was used longest ago, roughly.
func (d *disk) makeRoom(bytes int64) error {
	if d.sweep--; d.sweep <= 0 {
		d.cursor++
		files, err := d.recount(d.cursor % shards)
		if err != nil {
			return err
		}
		d.sweep = max(sweepEvery, len(files)/4)
	}
	for {
		each, all, err := d.accounts()
		if err != nil || all.bytes+bytes <= d.maxBytes && all.files+1 <= d.maxFiles {
			return err
		}
		if len(d.victims) == 0 {
			if err := d.choose(each); err != nil || len(d.victims) == 0 {
				return err
			}
			continue // with the accounts as now counted
		}
		f := d.victims[0]
		d.victims = d.victims[1:]
		info, err := d.root.Lstat(path(f.shard, f.name))
		if err != nil || !info.ModTime().Equal(f.last) {
			continue // it has gone, or was used since
		}
		if err := d.unlink(f.shard, f.name); err != nil {
			return err
		}
		d.counts.evicted.Add(1)
	}
}

// choose looks at as many shards as give a fair choice, and takes the quarter
// of their files that was used longest ago: the next stores evict these, and
// need not look.
func (d *disk) choose(each [shards]used) error {
	const fair = 128
	var files []stored
	for seen := 0; seen < shards && len(files) < fair; seen++ {
		d.cursor++
		shard := d.cursor % shards
		if each[shard].files == 0 {
			continue
		}
		found, err := d.recount(shard)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	slices.SortFunc(files, func(a, b stored) int { return a.last.Compare(b.last) })
	d.victims = slices.Clone(files[:(len(files)+3)/4])
	return nil
}

// unlink removes a file, if it is there, and takes it off the account.
func (d *disk) unlink(shard int, name string) error {
	info, err := d.root.Lstat(path(shard, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.root.Remove(path(shard, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.add(shard, used{-charge(info.Size()), -1})
}

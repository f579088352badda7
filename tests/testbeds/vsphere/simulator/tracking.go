package main

import (
	"crypto/rand"
	"fmt"
	"io/ioutil"
	"os"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// tracked is the changed block tracking of one disk. A change id is "generation/epoch": each
// snapshot begins an epoch, and what spoils the tracking a generation.
type tracked struct {
	generation string
	active     bool
	size       int64
	shadow     string   // what the disk held when the last epoch began
	epochs     [][]bool // blocks that were changed in each, from 1 on
}

func newTracked(size int64) (*tracked, error) {
	file, err := ioutil.TempFile("", "hs-shadow-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return &tracked{size: size, shadow: file.Name(), epochs: [][]bool{nil}}, nil
}

func (t *tracked) forget() { _ = os.Remove(t.shadow) }

func (t *tracked) spoil() {
	t.generation = generation()
	t.epochs = make([][]bool, len(t.epochs))
}

func (t *tracked) id() string {
	if !t.active {
		return ""
	}
	return fmt.Sprintf("%s/%d", t.generation, len(t.epochs)-1)
}

// next begins an epoch with what flat holds now.
func (t *tracked) next(flat string) error {
	if !t.active {
		return nil
	}
	marks, err := differing(flat, t.shadow)
	if err != nil {
		return err
	}
	t.epochs = append(t.epochs, marks)
	return copySparse(t.shadow, flat)
}

// generation looks as the ones of vSphere: "52 de c0 … -a1 …".
func generation() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	raw[0] = 0x52
	hex := fmt.Sprintf("% x", raw)
	return hex[:23] + "-" + hex[24:]
}

func split(id string) (string, int) {
	i := strings.LastIndex(id, "/")
	if i < 0 {
		return id, -1
	}
	n, err := strconv.Atoi(id[i+1:])
	if err != nil {
		return id, -1
	}
	return id[:i], n
}

func diskKey(vm *simulator.VirtualMachine, key int32) string {
	return fmt.Sprintf("%s/%d", vm.Self.Value, key)
}

func tracks(vm *simulator.VirtualMachine) bool {
	return vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
}

// queryChangedDiskAreas answers as the API reference says, a page at a time.
func (b *bed) queryChangedDiskAreas(this types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.QueryChangedDiskAreas)
	invalid := func(property string) (interface{}, types.BaseMethodFault) {
		return nil, &types.InvalidArgument{InvalidProperty: property}
	}
	vm := machine(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	t := b.tracked[diskKey(vm, r.DeviceKey)]
	if t == nil {
		return invalid("deviceKey")
	}
	var at, file string
	size := t.size
	switch {
	case r.Snapshot != nil:
		s := b.snapshots[r.Snapshot.Value]
		if s == nil || s.vm != this.Value {
			return invalid("snapshot")
		}
		d, ok := s.disks[r.DeviceKey]
		if !ok {
			return invalid("deviceKey")
		}
		at, file, size = d.changeID, d.file, d.size
	case vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn:
		return invalid("snapshot")
	default:
		for _, d := range disksOf(vm) {
			if d.Key == r.DeviceKey {
				at, file = t.id(), backing(d).FileName
			}
		}
	}
	failed := &types.FileFault{File: strings.Replace(file, ".vmdk", "-ctk.vmdk", 1)}
	if at == "" { // nothing was tracked then
		return nil, failed
	}
	if r.StartOffset < 0 || r.StartOffset >= size {
		return invalid("startOffset")
	}
	flat, err := content(vm, file)
	if err != nil {
		return nil, failed
	}
	marks, ok := t.since(r.ChangeId, at, flat, size, r.Snapshot == nil)
	if !ok {
		return invalid("changeId")
	}
	return &types.QueryChangedDiskAreasResponse{Returnval: areas(marks, r.StartOffset, size)}, nil
}

// since marks what changed between two change ids, and after the second one until now.
func (t *tracked) since(from, until, flat string, size int64, now bool) ([]bool, bool) {
	if from == "*" {
		marks, err := allocated(flat)
		return marks, err == nil
	}
	g, first := split(from)
	h, last := split(until)
	if g != h || g != t.generation || first > last || first < 1 {
		return nil, false
	}
	marks := make([]bool, (size+block-1)/block)
	add := func(more []bool) {
		for i := range marks {
			marks[i] = marks[i] || i < len(more) && more[i]
		}
	}
	for _, epoch := range t.epochs[first+1 : last+1] {
		add(epoch)
	}
	if now {
		more, err := differing(flat, t.shadow)
		if err != nil {
			return nil, false
		}
		add(more)
	}
	return marks, true
}

// areas is one page of them; the caller goes on where its length ends.
func areas(marks []bool, start, size int64) types.DiskChangeInfo {
	found := types.DiskChangeInfo{StartOffset: start, Length: size - start}
	for i := start / block; i*block < size; i++ {
		if !marks[i] {
			continue
		}
		a, z := i*block, (i+1)*block
		if a < start {
			a = start
		}
		if z > size {
			z = size
		}
		if n := len(found.ChangedArea); n > 0 &&
			found.ChangedArea[n-1].Start+found.ChangedArea[n-1].Length == a {
			found.ChangedArea[n-1].Length += z - a
		} else if n == *page {
			found.Length = a - start
			break
		} else {
			found.ChangedArea = append(found.ChangedArea,
				types.DiskChangeExtent{Start: a, Length: z - a})
		}
	}
	return found
}

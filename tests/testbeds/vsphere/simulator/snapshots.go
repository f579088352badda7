package main

import (
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const deepest = 32 // snapshots above each other

// frozen is what a snapshot holds of each disk, by device key.
type frozen struct {
	vm    string
	disks map[int32]frozenDisk
}

type frozenDisk struct {
	changeID, file string
	size           int64
}

type tree = types.VirtualMachineSnapshotTree

func (b *bed) createSnapshot(this types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.CreateSnapshot_Task)
	return b.snapshot("CreateSnapshot_Task", this, tree{
		Name: r.Name, Description: r.Description, Quiesced: r.Quiesce}, r.Memory)
}

func (b *bed) createSnapshotEx(this types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.CreateSnapshotEx_Task)
	return b.snapshot("CreateSnapshotEx_Task", this, tree{
		Name: r.Name, Description: r.Description, Quiesced: r.QuiesceSpec != nil}, r.Memory)
}

func (b *bed) snapshot(method string, this types.ManagedObjectReference, item tree, memory bool) (
	interface{}, types.BaseMethodFault) {
	vm := machine(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	return taskOf(method, b.task(vm, "createSnapshot", func() (types.AnyType, types.BaseMethodFault) {
		if refused := b.refuseSnapshot(vm); refused != nil {
			return nil, refused
		}
		s := &simulator.VirtualMachineSnapshot{}
		s.Vm, s.Config = vm.Self, *vm.Config
		s.Config.Hardware.Device = nil
		record := &frozen{vm: vm.Self.Value, disks: map[int32]frozenDisk{}}
		for _, device := range vm.Config.Hardware.Device {
			d, ok := device.(*types.VirtualDisk)
			if !ok || backing(d) == nil {
				s.Config.Hardware.Device = append(s.Config.Hardware.Device, device)
				continue
			}
			copied, back := *d, *backing(d) // the simulator would share them
			copied.Backing = &back
			s.Config.Hardware.Device = append(s.Config.Hardware.Device, &copied)
			if strings.HasPrefix(back.DiskMode, "independent") {
				continue
			}
			held, err := b.freeze(vm, d)
			if err != nil {
				return nil, &types.FileFault{File: back.FileName}
			}
			back.ChangeId = held.changeID
			record.disks[d.Key] = held
		}
		simulator.Map.Put(s)
		b.snapshots[s.Self.Value] = record
		b.numbers++
		item.Snapshot, item.Vm, item.Id, item.CreateTime = s.Self, vm.Self, int32(b.numbers), time.Now()
		item.ReplaySupported = types.NewBool(false)
		item.State = types.VirtualMachinePowerStatePoweredOff
		if memory {
			item.State = vm.Runtime.PowerState
		}
		simulator.Map.Update(vm, []types.PropertyChange{
			{Name: "snapshot", Val: grown(vm, item)},
			{Name: "config.hardware.device", Val: vm.Config.Hardware.Device}})
		return s.Self, nil
	})), nil
}

func (b *bed) refuseSnapshot(vm *simulator.VirtualMachine) types.BaseMethodFault {
	if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil &&
		depth(vm.Snapshot.RootSnapshotList, *vm.Snapshot.CurrentSnapshot, 1) >= deepest {
		return &types.TooManySnapshotLevels{}
	}
	for _, device := range vm.Config.Hardware.Device {
		if c, ok := device.(types.BaseVirtualSCSIController); ok {
			shared := c.GetVirtualSCSIController().SharedBus
			if shared != "" && shared != types.VirtualSCSISharingNoSharing {
				return &types.SnapshotFault{}
			}
		}
	}
	for _, d := range disksOf(vm) {
		name := backing(d).FileName
		if store := name[1:strings.Index(name, "]")]; b.full[store] {
			return &types.NoDiskSpace{FileFault: types.FileFault{File: name}, Datastore: store}
		}
	}
	return nil
}

// freeze: the disk's file stays for the snapshot, the machine goes on in a child of it.
func (b *bed) freeze(vm *simulator.VirtualMachine, d *types.VirtualDisk) (frozenDisk, error) {
	t, back := b.tracked[diskKey(vm, d.Key)], backing(d)
	flat, err := content(vm, back.FileName)
	if err != nil || t == nil {
		return frozenDisk{}, os.ErrNotExist
	}
	if tracks(vm) && !t.active { // it takes effect with the stun of a snapshot
		t.active = true
		t.spoil()
	}
	if err = t.next(flat); err != nil {
		return frozenDisk{}, err
	}
	held := frozenDisk{t.id(), back.FileName, d.CapacityInBytes}
	return held, moveOn(vm, d, held.file, t)
}

// moveOn puts the machine's disk on a child of file.
func moveOn(vm *simulator.VirtualMachine, d *types.VirtualDisk, file string, t *tracked) error {
	name, err := child(vm, file)
	if err != nil {
		return err
	}
	back := *backing(d)
	back.Parent = &types.VirtualDiskFlatVer2BackingInfo{DiskMode: back.DiskMode, Uuid: back.Uuid,
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
			FileName: file, Datastore: back.Datastore}}
	back.FileName, back.ChangeId = name, t.id()
	d.Backing = &back
	return nil
}

func (b *bed) revertToSnapshot(this types.ManagedObjectReference, _ types.AnyType) (
	interface{}, types.BaseMethodFault) {
	vm := b.owner(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	return taskOf("RevertToSnapshot_Task", b.task(vm, "revertToSnapshot",
		func() (types.AnyType, types.BaseMethodFault) {
			record := b.snapshots[this.Value]
			s := simulator.Map.Get(this).(*simulator.VirtualMachineSnapshot)
			for _, d := range disksOf(vm) {
				if _, ok := record.disks[d.Key]; ok {
					erase(vm, backing(d).FileName)
				}
			}
			config := s.Config
			config.Hardware.Device = nil
			for _, device := range s.Config.Hardware.Device {
				d, ok := device.(*types.VirtualDisk)
				if !ok {
					config.Hardware.Device = append(config.Hardware.Device, device)
					continue
				}
				copied, back := *d, *backing(d)
				copied.Backing = &back
				if held, ok := record.disks[d.Key]; ok {
					t := b.tracked[diskKey(vm, d.Key)]
					t.size = held.size
					t.spoil() // no change id of before a revert is good any more
					flat, err := content(vm, held.file)
					if err == nil {
						err = copySparse(t.shadow, flat)
					}
					if err == nil {
						err = moveOn(vm, &copied, held.file, t)
					}
					if err != nil {
						return nil, &types.FileFault{File: held.file}
					}
				}
				config.Hardware.Device = append(config.Hardware.Device, &copied)
			}
			vm.Config = &config
			state := find(vm.Snapshot.RootSnapshotList, this).State
			simulator.Map.Update(vm, []types.PropertyChange{
				{Name: "config.hardware.device", Val: config.Hardware.Device},
				{Name: "snapshot.currentSnapshot", Val: this},
				{Name: "runtime.powerState", Val: state},
				{Name: "summary.runtime.powerState", Val: state}})
			return nil, nil
		})), nil
}

func (b *bed) removeSnapshot(this types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	children := body.(*types.RemoveSnapshot_Task).RemoveChildren
	vm := b.owner(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	return taskOf("RemoveSnapshot_Task", b.task(vm, "removeSnapshot",
		func() (types.AnyType, types.BaseMethodFault) {
			if b.snapshots[this.Value] == nil {
				return nil, &types.ManagedObjectNotFound{Obj: this}
			}
			for _, held := range b.snapshots[this.Value].disks {
				flat, _ := content(vm, held.file)
				if b.leased(flat) { // somebody reads it: its delta stays behind
					vm.Runtime.ConsolidationNeeded = types.NewBool(true)
					return nil, &types.FileLocked{FileFault: types.FileFault{File: held.file}}
				}
			}
			for children {
				t := find(vm.Snapshot.RootSnapshotList, this)
				if len(t.ChildSnapshotList) == 0 {
					break
				}
				leaf := t.ChildSnapshotList[0]
				for len(leaf.ChildSnapshotList) > 0 {
					leaf = leaf.ChildSnapshotList[0]
				}
				b.remove(vm, leaf.Snapshot)
			}
			b.remove(vm, this)
			return nil, nil
		})), nil
}

func (b *bed) removeAllSnapshots(this types.ManagedObjectReference, _ types.AnyType) (
	interface{}, types.BaseMethodFault) {
	vm := machine(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	return taskOf("RemoveAllSnapshots_Task", b.task(vm, "removeAllSnapshots",
		func() (types.AnyType, types.BaseMethodFault) {
			for vm.Snapshot != nil && len(vm.Snapshot.RootSnapshotList) > 0 {
				b.remove(vm, vm.Snapshot.RootSnapshotList[0].Snapshot)
			}
			return nil, nil
		})), nil
}

func (b *bed) consolidate(this types.ManagedObjectReference, _ types.AnyType) (
	interface{}, types.BaseMethodFault) {
	vm := machine(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	return taskOf("ConsolidateVMDisks_Task", b.task(vm, "consolidateDisks",
		func() (types.AnyType, types.BaseMethodFault) {
			// not by Map.Update: it cannot set a pointer to a bool
			vm.Runtime.ConsolidationNeeded = types.NewBool(false)
			return nil, nil
		})), nil
}

func (b *bed) renameSnapshot(this types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.RenameSnapshot)
	vm := b.owner(this)
	if vm == nil {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	t := find(vm.Snapshot.RootSnapshotList, this)
	if r.Name != "" {
		t.Name = r.Name
	}
	if r.Description != "" {
		t.Description = r.Description
	}
	return &types.RenameSnapshotResponse{}, nil
}

// remove merges a snapshot: whoever comes right after it takes its file over.
func (b *bed) remove(vm *simulator.VirtualMachine, ref types.ManagedObjectReference) {
	record, t := b.snapshots[ref.Value], find(vm.Snapshot.RootSnapshotList, ref)
	current := vm.Snapshot.CurrentSnapshot != nil && *vm.Snapshot.CurrentSnapshot == ref
	after := len(t.ChildSnapshotList)
	if current {
		after++
	}
	for key, held := range record.disks {
		switch {
		case after > 1: // several stand on it: its file stays as their parent
		case after == 0:
			erase(vm, held.file)
		case current:
			for _, d := range disksOf(vm) {
				if d.Key == key {
					b.takeOver(vm, d, held.file, parentIn(ref.Value, key))
				}
			}
		default:
			next := t.ChildSnapshotList[0].Snapshot
			for _, d := range disksIn(next.Value) {
				if d.Key == key {
					b.takeOver(vm, d, held.file, parentIn(ref.Value, key))
					its := b.snapshots[next.Value].disks[key]
					its.file = held.file
					b.snapshots[next.Value].disks[key] = its
				}
			}
		}
	}
	info := *vm.Snapshot
	var parent *types.ManagedObjectReference
	info.RootSnapshotList, parent = without(info.RootSnapshotList, ref, nil)
	if current {
		info.CurrentSnapshot = parent
	}
	delete(b.snapshots, ref.Value)
	simulator.Map.Remove(ref)
	if len(info.RootSnapshotList) == 0 {
		simulator.Map.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: nil}})
		vm.Snapshot = nil
	} else {
		simulator.Map.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: &info}})
	}
	simulator.Map.Update(vm, []types.PropertyChange{
		{Name: "config.hardware.device", Val: vm.Config.Hardware.Device}})
}

// takeOver: the disk's content is at file from now on, above what that stood on; what stands on the
// disk stands on file.
func (b *bed) takeOver(vm *simulator.VirtualMachine, d *types.VirtualDisk, file string,
	below *types.VirtualDiskFlatVer2BackingInfo) {
	back := *backing(d)
	old := back.FileName
	from, _ := content(vm, old)
	to, _ := content(vm, file)
	_ = os.Rename(from, to)
	erase(vm, old)
	back.FileName, back.Parent = file, below
	d.Backing = &back
	all := disksOf(vm)
	for ref, record := range b.snapshots {
		if record.vm == vm.Self.Value {
			all = append(all, disksIn(ref)...)
		}
	}
	for _, other := range all {
		if above := backing(other); above.Parent != nil && above.Parent.FileName == old {
			moved, parent := *above, *above.Parent
			parent.FileName = file
			moved.Parent = &parent
			other.Backing = &moved
		}
	}
}

// disksIn are the disks that a snapshot holds.
func disksIn(snapshot string) (found []*types.VirtualDisk) {
	s, ok := simulator.Map.Get(types.ManagedObjectReference{
		Type: "VirtualMachineSnapshot", Value: snapshot}).(*simulator.VirtualMachineSnapshot)
	if !ok {
		return nil
	}
	for _, device := range s.Config.Hardware.Device {
		if d, ok := device.(*types.VirtualDisk); ok && backing(d) != nil {
			found = append(found, d)
		}
	}
	return
}

// parentIn is what a snapshot's disk stands on.
func parentIn(snapshot string, key int32) *types.VirtualDiskFlatVer2BackingInfo {
	for _, d := range disksIn(snapshot) {
		if d.Key == key {
			return backing(d).Parent
		}
	}
	return nil
}

func (b *bed) owner(snapshot types.ManagedObjectReference) *simulator.VirtualMachine {
	if s := b.snapshots[snapshot.Value]; s != nil {
		return machineOf(s.vm)
	}
	return nil
}

func find(list []tree, ref types.ManagedObjectReference) *tree {
	for i := range list {
		if list[i].Snapshot == ref {
			return &list[i]
		}
		if t := find(list[i].ChildSnapshotList, ref); t != nil {
			return t
		}
	}
	return nil
}

func depth(list []tree, ref types.ManagedObjectReference, level int) int {
	for _, t := range list {
		if t.Snapshot == ref {
			return level
		}
		if d := depth(t.ChildSnapshotList, ref, level+1); d > 0 {
			return d
		}
	}
	return 0
}

// grown is the machine's tree with one more, above the current one.
func grown(vm *simulator.VirtualMachine, item tree) *types.VirtualMachineSnapshotInfo {
	info := &types.VirtualMachineSnapshotInfo{CurrentSnapshot: &item.Snapshot}
	if vm.Snapshot != nil {
		info.RootSnapshotList = vm.Snapshot.RootSnapshotList
		if current := vm.Snapshot.CurrentSnapshot; current != nil {
			t := find(info.RootSnapshotList, *current)
			t.ChildSnapshotList = append(t.ChildSnapshotList, item)
			return info
		}
	}
	info.RootSnapshotList = append(info.RootSnapshotList, item)
	return info
}

// without is a list of trees without one of them, whose children take its place, and its parent.
func without(list []tree, ref types.ManagedObjectReference, above *types.ManagedObjectReference) (
	out []tree, parent *types.ManagedObjectReference) {
	for _, t := range list {
		if t.Snapshot == ref {
			parent = above
			out = append(out, t.ChildSnapshotList...)
			continue
		}
		self := t.Snapshot
		var found *types.ManagedObjectReference
		t.ChildSnapshotList, found = without(t.ChildSnapshotList, ref, &self)
		if found != nil {
			parent = found
		}
		out = append(out, t)
	}
	return
}

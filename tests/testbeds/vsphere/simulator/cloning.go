package main

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// lendDevices has the simulator clone copies of the devices, as they are or as the snapshot has
// them: it would put its changes into the source's own. Returns what gives them back.
func (b *bed) lendDevices(call *simulator.Method) (back func()) {
	r, ok := call.Body.(*types.CloneVM_Task)
	vm := machine(call.This)
	if !ok || vm == nil {
		return func() {}
	}
	b.Lock()
	defer b.Unlock()
	own := vm.Config.Hardware.Device
	from := own
	if r.Spec.Snapshot != nil {
		if s, ok := simulator.Map.Get(*r.Spec.Snapshot).(*simulator.VirtualMachineSnapshot); ok {
			from = s.Config.Hardware.Device
		}
	}
	vm.Config.Hardware.Device = nil
	for _, device := range from {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, copied(device))
	}
	return func() {
		b.Lock()
		defer b.Unlock()
		vm.Config.Hardware.Device = own
	}
}

// copied is a device with a backing, a description and a connection of its own.
func copied(device types.BaseVirtualDevice) types.BaseVirtualDevice {
	made := clone(device).(types.BaseVirtualDevice)
	base := made.GetVirtualDevice()
	if base.Backing != nil {
		base.Backing = clone(base.Backing).(types.BaseVirtualDeviceBackingInfo)
	}
	if base.Connectable != nil {
		connectable := *base.Connectable
		base.Connectable = &connectable
	}
	base.DeviceInfo = nil
	return made
}

func clone(v interface{}) interface{} {
	made := reflect.New(reflect.TypeOf(v).Elem())
	made.Elem().Set(reflect.ValueOf(v).Elem())
	return made.Interface()
}

// fillClone gives the disks of a new clone what its source holds: a copy, or a child of it.
func (b *bed) fillClone(call *simulator.Method) {
	r, ok := call.Body.(*types.CloneVM_Task)
	source := machine(call.This)
	if !ok || source == nil {
		return
	}
	b.Lock()
	defer b.Unlock()
	files := map[int32]string{}
	for _, d := range disksOf(source) {
		files[d.Key] = backing(d).FileName
	}
	if r.Spec.Snapshot != nil && b.snapshots[r.Spec.Snapshot.Value] != nil {
		for key, held := range b.snapshots[r.Spec.Snapshot.Value].disks {
			files[key] = held.file
		}
	}
	child := r.Spec.Location.DiskMoveType ==
		string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
	for _, vm := range allMachines() {
		if vm.Name != r.Name || vm.Self == source.Self {
			continue
		}
		for _, d := range disksOf(vm) {
			from, err := content(source, files[d.Key])
			to, failed := content(vm, backing(d).FileName)
			if err != nil || failed != nil || copySparse(to, from) != nil {
				continue
			}
			if child {
				backing(d).Parent = &types.VirtualDiskFlatVer2BackingInfo{
					DiskMode: backing(d).DiskMode, Uuid: backing(d).Uuid,
					VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
						FileName: files[d.Key], Datastore: backing(d).Datastore}}
			}
		}
	}
}

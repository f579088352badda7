package main

import (
	"log"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// settle gives every disk its content and every machine the properties that a real one has: what
// the simulator leaves out or makes up.
func (b *bed) settle() {
	b.Lock()
	defer b.Unlock()
	there := map[string]bool{}
	for _, vm := range allMachines() {
		vm.Capability.ChangeTrackingSupported = types.NewBool(true)
		b.number(vm)
		tidyExtraConfig(vm)
		if vm.Config.ChangeVersion == "" {
			vm.Config.ChangeVersion = time.Now().UTC().Format(time.RFC3339Nano)
		}
		for _, d := range disksOf(vm) {
			there[diskKey(vm, d.Key)] = true
			b.settleDisk(vm, d)
		}
	}
	for key, t := range b.tracked {
		if !there[key] {
			t.forget()
			delete(b.tracked, key)
		}
	}
}

// reconfigured: the simulator does not count the versions of a configuration.
func (b *bed) reconfigured(call *simulator.Method) {
	vm := machine(call.This)
	if vm == nil {
		vm = b.owner(call.This)
	}
	if vm != nil && strings.HasSuffix(call.Name, "_Task") {
		vm.Config.ChangeVersion = time.Now().UTC().Format(time.RFC3339Nano)
	}
}

// markUplinks: the simulator makes port groups for uplinks, and does not tell which.
func markUplinks() {
	for _, e := range simulator.Map.All("DistributedVirtualPortgroup") {
		group := e.(*simulator.DistributedVirtualPortgroup)
		if !strings.Contains(group.Name, "-DVUplinks-") || group.Config.DistributedVirtualSwitch == nil {
			continue
		}
		dvs := simulator.Map.Get(*group.Config.DistributedVirtualSwitch)
		config := dvs.(*simulator.DistributedVirtualSwitch).Config.GetDVSConfigInfo()
		config.UplinkPortgroup = append(config.UplinkPortgroup, group.Self)
	}
}

func (b *bed) settleDisk(vm *simulator.VirtualMachine, d *types.VirtualDisk) {
	back := backing(d)
	flat, err := content(vm, back.FileName)
	if err != nil {
		log.Print(err)
		return
	}
	size := d.CapacityInKB << 10
	d.CapacityInBytes = size
	if back.Uuid == "" {
		back.Uuid = strings.ToUpper(uuid.New().String())
	}
	if found, err := os.Stat(flat); back.Parent != nil && (err != nil || found.Size() == 0) {
		// a new child of another's disk
		from, err := content(vm, back.Parent.FileName)
		if err == nil {
			err = copySparse(flat, from)
		}
		if err != nil {
			log.Print(err)
			return
		}
	}
	if err = ensure(flat, size); err != nil {
		log.Print(err)
		return
	}
	t := b.tracked[diskKey(vm, d.Key)]
	if t == nil {
		if t, err = newTracked(size); err != nil {
			log.Print(err)
			return
		}
		b.tracked[diskKey(vm, d.Key)] = t
	}
	if t.size != size { // grown: change ids of before end here
		t.size = size
		t.spoil()
	}
	if !tracks(vm) {
		t.active = false
	}
	back.ChangeId = t.id()
}

// number gives devices the keys that vSphere gives them, by kind, bus and unit. Keys that the
// simulator made up are small numbers.
func (b *bed) number(vm *simulator.VirtualMachine) {
	controllers := map[int32]types.BaseVirtualController{}
	moved := map[int32]int32{}
	for _, device := range vm.Config.Hardware.Device {
		c, ok := device.(types.BaseVirtualController)
		if !ok {
			continue
		}
		base, first := c.GetVirtualController(), int32(0)
		switch device.(type) {
		case types.BaseVirtualSCSIController:
			first = 1000
		case types.BaseVirtualSATAController:
			first = 15000
		case *types.VirtualNVMEController:
			first = 31000
		}
		if first > 0 {
			moved[base.Key] = first + base.BusNumber
			base.Key = first + base.BusNumber
		}
		controllers[base.Key] = c
	}
	nic := int32(4000)
	for _, device := range vm.Config.Hardware.Device {
		base := device.GetVirtualDevice()
		if key, ok := moved[base.ControllerKey]; ok {
			base.ControllerKey = key
		}
		switch device.(type) {
		case types.BaseVirtualEthernetCard:
			base.Key = nic
			nic++
		case *types.VirtualDisk:
			c := controllers[base.ControllerKey]
			if c == nil || base.UnitNumber == nil {
				continue
			}
			bus, unit := c.GetVirtualController().BusNumber, *base.UnitNumber
			switch c.(type) {
			case types.BaseVirtualSCSIController:
				base.Key = 2000 + 16*bus + unit
			case types.BaseVirtualSATAController:
				base.Key = 16000 + 30*bus + unit
			case *types.VirtualNVMEController:
				base.Key = 32000 + 15*bus + unit
			case *types.VirtualIDEController:
				base.Key = 3000 + 2*bus + unit
			}
		}
	}
	devices := vm.Config.Hardware.Device
	sort.SliceStable(devices, func(i, j int) bool { // an edited one would come last
		return devices[i].GetVirtualDevice().Key < devices[j].GetVirtualDevice().Key
	})
	for _, c := range controllers {
		c.GetVirtualController().Device = nil
	}
	for _, device := range vm.Config.Hardware.Device {
		base := device.GetVirtualDevice()
		if c := controllers[base.ControllerKey]; c != nil {
			c.GetVirtualController().Device = append(c.GetVirtualController().Device, base.Key)
		}
	}
}

// tidyExtraConfig: the simulator appends what is there already, and keeps what was emptied.
func tidyExtraConfig(vm *simulator.VirtualMachine) {
	last := map[string]types.BaseOptionValue{}
	var order []string
	for _, option := range vm.Config.ExtraConfig {
		key := option.GetOptionValue().Key
		if last[key] == nil {
			order = append(order, key)
		}
		last[key] = option
	}
	if last["nvram"] == nil {
		order = append(order, "nvram")
		last["nvram"] = &types.OptionValue{Key: "nvram", Value: vm.Name + ".nvram"}
	}
	vm.Config.ExtraConfig = nil
	for _, key := range order {
		if value, ok := last[key].GetOptionValue().Value.(string); !ok || value != "" {
			vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, last[key])
		}
	}
}

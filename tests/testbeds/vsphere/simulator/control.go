package main

import (
	"encoding/json"
	"io/ioutil"
	"math/rand"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// control is what tests and the stand-in for VDDK may ask beside vSphere's own calls.
func (b *bed) control(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch path.Base(r.URL.Path) {
	case "vddk-open":
		b.open(w, r)
	case "vddk-close":
		b.closed(q)
	case "fault":
		f := new(fault)
		if err := json.NewDecoder(r.Body).Decode(f); err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		b.Lock()
		b.faults = append(b.faults, f)
		b.Unlock()
	case "calm":
		b.Lock()
		b.faults, b.full, b.denied = nil, map[string]bool{}, map[string]bool{}
		b.Unlock()
	case "state":
		b.Lock()
		b.reap()
		_ = json.NewEncoder(w).Encode(map[string]interface{}{
			"calls": b.calls, "leases": b.leases, "traffic": b.traffic})
		b.Unlock()
	case "forget":
		b.Lock()
		b.calls, b.traffic = map[string]int{}, traffic{}
		b.Unlock()
	case "full":
		b.Lock()
		b.full[q.Get("datastore")] = q.Get("on") == "1"
		b.Unlock()
	case "deny":
		b.Lock()
		b.denied[q.Get("privilege")] = true
		b.Unlock()
	case "spoil": // power loss, a move to another datastore
		b.Lock()
		for _, vm := range allMachines() {
			if vm.Self.Value == q.Get("vm") {
				for _, d := range disksOf(vm) {
					b.tracked[diskKey(vm, d.Key)].spoil()
				}
			}
		}
		b.Unlock()
	case "consolidation":
		if vm := machineOf(q.Get("vm")); vm != nil {
			vm.Runtime.ConsolidationNeeded = types.NewBool(q.Get("on") == "1")
		}
	case "tools":
		if vm := machineOf(q.Get("vm")); vm != nil {
			running, status, heart := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning,
				types.VirtualMachineToolsStatusToolsNotRunning, types.ManagedEntityStatusGray
			if q.Get("on") == "1" {
				running, status, heart = types.VirtualMachineToolsRunningStatusGuestToolsRunning,
					types.VirtualMachineToolsStatusToolsOk, types.ManagedEntityStatusGreen
			}
			b.Lock()
			vm.Config.Tools = &types.ToolsConfigInfo{ToolsVersion: 12352}
			vm.Guest.ToolsRunningStatus, vm.Guest.ToolsStatus = string(running), status
			vm.GuestHeartbeatStatus = heart
			b.Unlock()
		}
	case "write": // as the guest would: between two snapshots, never across one
		data, _ := ioutil.ReadAll(r.Body)
		b.Lock()
		defer b.Unlock()
		if err := b.write(q.Get("vm"), number(q, "key"), number(q, "offset"), data); err != nil {
			refuse(w, http.StatusConflict, err.Error())
		}
	case "writer":
		b.writer(q.Get("vm"), q.Get("rate"))
	default:
		refuse(w, http.StatusNotFound, "there is no such control")
	}
}

func (b *bed) write(id string, key, offset int64, data []byte) error {
	vm := machineOf(id)
	if vm == nil {
		return os.ErrNotExist
	}
	for _, d := range disksOf(vm) {
		if int64(d.Key) != key {
			continue
		}
		flat, err := content(vm, backing(d).FileName)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(flat, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = file.WriteAt(data, offset)
		return err
	}
	return os.ErrNotExist
}

// writer has a guest that runs write a block at a random place, so many times a second; 0 ends it.
func (b *bed) writer(id, rate string) {
	b.Lock()
	defer b.Unlock()
	if stop := b.writers[id]; stop != nil {
		close(stop)
		delete(b.writers, id)
	}
	each, _ := strconv.ParseFloat(rate, 64)
	if each <= 0 {
		return
	}
	stop := make(chan struct{})
	b.writers[id] = stop
	go func() {
		tick := time.NewTicker(time.Duration(float64(time.Second) / each))
		defer tick.Stop()
		data := make([]byte, 4096)
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				b.Lock()
				if vm := machineOf(id); vm != nil && running(vm) {
					for _, d := range disksOf(vm) {
						rand.Read(data)
						_ = b.write(id, int64(d.Key), rand.Int63n(d.CapacityInBytes/4096)*4096, data)
					}
				}
				b.Unlock()
			}
		}
	}()
}

func running(vm *simulator.VirtualMachine) bool {
	return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
}

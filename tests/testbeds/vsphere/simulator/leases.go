package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is a disk that somebody has open over VDDK.
type lease struct {
	VM, Path, Pid, Mode string
	Write               bool
	Buffer              int64
}

// traffic is what was moved over disks that were closed again.
type traffic struct {
	Opened, Requests, Read, Written, Largest, MostOpen, MostBuffered int64
}

func (b *bed) open(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if f := b.take("vddk-open"); f != nil {
		f.happen(false)
		refuse(w, http.StatusServiceUnavailable, f.Fault)
		return
	}
	if !b.knows(r) {
		refuse(w, http.StatusUnauthorized, "Cannot login user")
		return
	}
	b.Lock()
	defer b.Unlock()
	flat, size, err := b.resolve(q)
	if err != nil {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	write, buffer := q.Get("rw") == "1", number(q, "buffer")
	if write && b.denied[writeDisk] || !write && b.denied[readDisk] {
		refuse(w, http.StatusForbidden, "You do not have the privilege to do that")
		return
	}
	b.reap()
	total := buffer
	for _, other := range b.leases {
		total += other.Buffer
		if other.Path == flat && (write || other.Write) {
			refuse(w, http.StatusConflict, "The file is locked by another reader or writer")
			return
		}
	}
	if total > *nfc {
		refuse(w, http.StatusServiceUnavailable, "Failed to allocate the requested NFC buffer")
		return
	}
	b.numbers++
	id := fmt.Sprint(b.numbers)
	b.leases[id] = &lease{strings.TrimPrefix(q.Get("vm"), "moref="), flat, q.Get("pid"),
		q.Get("mode"), write, buffer}
	b.traffic.Opened++
	b.traffic.MostOpen = larger(b.traffic.MostOpen, int64(len(b.leases)))
	b.traffic.MostBuffered = larger(b.traffic.MostBuffered, total)
	fmt.Fprintf(w, "%s\n%d\n%s\n", id, size, flat)
}

func (b *bed) closed(q url.Values) {
	b.Lock()
	defer b.Unlock()
	delete(b.leases, q.Get("id"))
	t := &b.traffic
	t.Requests += number(q, "requests")
	t.Read += number(q, "read")
	t.Written += number(q, "written")
	t.Largest = larger(t.Largest, number(q, "largest"))
}

// resolve finds the file of a disk, by the rules that a host has.
func (b *bed) resolve(q url.Values) (string, int64, error) {
	vm := machineOf(strings.TrimPrefix(q.Get("vm"), "moref="))
	if vm == nil {
		return "", 0, errors.New("The managed object reference was not found")
	}
	file, write := q.Get("file"), q.Get("rw") == "1"
	if snapshot := q.Get("snapshot"); snapshot != "" {
		s := b.snapshots[snapshot]
		if s == nil || s.vm != vm.Self.Value {
			return "", 0, errors.New("The snapshot was not found")
		}
		if write {
			return "", 0, errors.New("A disk of a snapshot cannot be opened for writing")
		}
		for _, d := range s.disks {
			if d.file == file {
				flat, err := content(vm, file)
				return flat, d.size, err
			}
		}
		return "", 0, errors.New("The file was not found among the disks of the snapshot")
	}
	for _, d := range disksOf(vm) {
		if backing(d).FileName != file {
			continue
		}
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			return "", 0, errors.New("The file is locked: the machine is powered on")
		}
		if name := file[1:strings.Index(file, "]")]; write && b.full[name] {
			return "", 0, errors.New("There is no space left on the datastore")
		}
		flat, err := content(vm, file)
		return flat, d.CapacityInBytes, err
	}
	return "", 0, errors.New("The file was not found among the disks of the machine")
}

// holds: what the simulator does not look at. A machine does not start while somebody has one of its
// disks open to write, nor is it reconfigured by who has read an older configuration.
func (b *bed) holds(call *simulator.Method) types.BaseMethodFault {
	vm := machine(call.This)
	if vm == nil {
		return nil
	}
	b.Lock()
	defer b.Unlock()
	switch body := call.Body.(type) {
	case *types.PowerOnVM_Task:
		b.reap()
		for _, d := range disksOf(vm) {
			flat, _ := content(vm, backing(d).FileName)
			for _, l := range b.leases {
				if l.Path == flat && l.Write {
					return &types.FileLocked{FileFault: types.FileFault{File: backing(d).FileName}}
				}
			}
		}
	case *types.ReconfigVM_Task:
		if v := body.Spec.ChangeVersion; v != "" && v != vm.Config.ChangeVersion {
			return new(types.ConcurrentAccess)
		}
	}
	return nil
}

func (b *bed) leased(flat string) bool {
	b.reap()
	for _, l := range b.leases {
		if l.Path == flat {
			return true
		}
	}
	return false
}

// reap forgets disks of processes that are gone, as a host does when their connection breaks off.
func (b *bed) reap() {
	for id, l := range b.leases {
		if _, err := os.Stat("/proc/" + l.Pid); err != nil {
			delete(b.leases, id)
		}
	}
}

func refuse(w http.ResponseWriter, code int, why string) {
	w.WriteHeader(code)
	fmt.Fprintln(w, why)
}

func number(q url.Values, name string) int64 {
	n, _ := strconv.ParseInt(q.Get(name), 10, 64)
	return n
}

func larger(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

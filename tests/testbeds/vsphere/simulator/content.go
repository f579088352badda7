package main

import (
	"bytes"
	"fmt"
	"io"
	"io/ioutil"
	"os"
	"path"
	"regexp"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const block = 64 << 10 // in which changes are tracked

const (
	seekData = 3
	seekHole = 4
)

func disksOf(vm *simulator.VirtualMachine) (found []*types.VirtualDisk) {
	for _, d := range vm.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && backing(disk) != nil {
			found = append(found, disk)
		}
	}
	return
}

func backing(d *types.VirtualDisk) *types.VirtualDiskFlatVer2BackingInfo {
	found, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return found
}

// content is where "[datastore] folder/disk.vmdk" lies on this machine.
func content(vm *simulator.VirtualMachine, file string) (string, error) {
	var at object.DatastorePath
	if !at.FromString(file) {
		return "", fmt.Errorf("%q is no path of a datastore", file)
	}
	for _, e := range simulator.Map.All("Datastore") {
		if ds := e.(*simulator.Datastore); ds.Name == at.Datastore {
			return path.Join(ds.Info.GetDatastoreInfo().Url,
				strings.TrimSuffix(at.Path, ".vmdk")+"-flat.vmdk"), nil
		}
	}
	return "", fmt.Errorf("there is no datastore %q", at.Datastore)
}

func describe(flat string, size int64) error {
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"+
		"createType=\"vmfs\"\n\nRW %d VMFS \"%s\"\n\nddb.adapterType = \"lsilogic\"\n"+
		"ddb.thinProvisioned = \"1\"\n", size/512, path.Base(flat))
	return ioutil.WriteFile(strings.TrimSuffix(flat, "-flat.vmdk")+".vmdk", []byte(text), 0600)
}

func ensure(flat string, size int64) error {
	if found, err := os.Stat(flat); err == nil && found.Size() == size {
		return nil
	}
	if err := os.MkdirAll(path.Dir(flat), 0700); err != nil {
		return err
	}
	file, err := os.OpenFile(flat, os.O_RDWR|os.O_CREATE, 0600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err = file.Truncate(size); err != nil {
		return err
	}
	return describe(flat, size)
}

func erase(vm *simulator.VirtualMachine, file string) {
	if flat, err := content(vm, file); err == nil {
		_ = os.Remove(flat)
		_ = os.Remove(strings.TrimSuffix(flat, "-flat.vmdk") + ".vmdk")
	}
}

var numbered = regexp.MustCompile(`(-\d{6})?\.vmdk$`)

// child makes the next -NNNNNN file, with what from holds. (The simulator's delta is a whole copy;
// what counts is that its parent stays as it is.)
func child(vm *simulator.VirtualMachine, from string) (string, error) {
	source, err := content(vm, from)
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		name := numbered.ReplaceAllString(from, fmt.Sprintf("-%06d.vmdk", n))
		flat, err := content(vm, name)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(flat); err == nil {
			continue
		}
		found, err := os.Stat(source)
		if err != nil {
			return "", err
		}
		if err = copySparse(flat, source); err != nil {
			return "", err
		}
		return name, describe(flat, found.Size())
	}
}

// eachData calls f for each range of a file that is no hole.
func eachData(file *os.File, size int64, f func(from, to int64) error) error {
	for at := int64(0); at < size; {
		from, err := syscall.Seek(int(file.Fd()), at, seekData)
		if err == syscall.ENXIO {
			return nil
		} else if err != nil {
			return err
		}
		to, err := syscall.Seek(int(file.Fd()), from, seekHole)
		if err != nil {
			return err
		}
		if err = f(from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	found, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err = out.Truncate(found.Size()); err != nil {
		return err
	}
	return eachData(in, found.Size(), func(a, z int64) error {
		_, err := io.Copy(&at{out, a}, io.NewSectionReader(in, a, z-a))
		return err
	})
}

// allocated marks the blocks of a file that hold data.
func allocated(flat string) ([]bool, error) {
	file, err := os.Open(flat)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found, err := file.Stat()
	if err != nil {
		return nil, err
	}
	marks := make([]bool, (found.Size()+block-1)/block)
	return marks, eachData(file, found.Size(), func(a, z int64) error {
		for i := a / block; i*block < z; i++ {
			marks[i] = true
		}
		return nil
	})
}

// differing marks the blocks of now in which it differs from before; a missing end reads as zero.
func differing(now, before string) ([]bool, error) {
	marks, err := allocated(now)
	if err != nil {
		return nil, err
	}
	old, err := allocated(before)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(now)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := os.Open(before)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	x, y := make([]byte, block), make([]byte, block)
	for i := range marks {
		if !marks[i] && (i >= len(old) || !old[i]) {
			continue
		}
		marks[i] = !bytes.Equal(blockAt(f, x, int64(i)), blockAt(g, y, int64(i)))
	}
	return marks, nil
}

func blockAt(file *os.File, buffer []byte, number int64) []byte {
	n, _ := file.ReadAt(buffer, number*block)
	for i := n; i < len(buffer); i++ {
		buffer[i] = 0
	}
	return buffer
}

// at writes to a file from an offset on.
type at struct {
	file   *os.File
	offset int64
}

func (w *at) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.offset)
	w.offset += int64(n)
	return n, err
}

// attached are the files of all disks of a machine that is to be destroyed, wherever they lie;
// those that another machine reads, as the source of a linked clone does, stay.
func (b *bed) attached(call *simulator.Method) []string {
	vm := machine(call.This)
	if vm == nil || call.Name != "Destroy_Task" {
		return nil
	}
	b.Lock()
	defer b.Unlock()
	shared := map[string]bool{}
	for _, other := range allMachines() {
		if other.Self != vm.Self {
			chainsOf(other, func(file string) { shared[file] = true })
		}
	}
	var files []string
	chainsOf(vm, func(file string) {
		if flat, err := content(vm, file); err == nil && !shared[file] {
			files = append(files, flat, strings.TrimSuffix(flat, "-flat.vmdk")+".vmdk")
		}
	})
	return files
}

// chainsOf tells each file that the machine's disks read.
func chainsOf(vm *simulator.VirtualMachine, tell func(file string)) {
	for _, d := range disksOf(vm) {
		for back := backing(d); back != nil; back = back.Parent {
			tell(back.FileName)
		}
	}
}

// destroyed: a machine goes with all its disks; the simulator removes its directory only.
func destroyed(call *simulator.Method, attached []string) {
	if machine(call.This) == nil {
		for _, file := range attached {
			_ = os.Remove(file)
		}
	}
}

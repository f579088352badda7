package main

import (
	"os"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// located is the datastore of "[datastore] path", and where that lies on this machine.
func located(name string) (*simulator.Datastore, string, types.BaseMethodFault) {
	var at object.DatastorePath
	if !at.FromString(name) || at.Path == "" {
		return nil, "", &types.InvalidDatastorePath{DatastorePath: name}
	}
	for _, e := range simulator.Map.All("Datastore") {
		if ds := e.(*simulator.Datastore); ds.Name == at.Datastore {
			return ds, path.Join(ds.Info.GetDatastoreInfo().Url, at.Path), nil
		}
	}
	return nil, "", &types.InvalidDatastore{Name: at.Datastore}
}

// onFiles runs work as a task of the datastore: the simulator's own makes one of the file manager,
// which no client can read.
func onFiles(method, name string, work func(file string) types.BaseMethodFault) (
	interface{}, types.BaseMethodFault) {
	ds, file, refused := located(name)
	if refused != nil {
		return nil, refused
	}
	task := simulator.CreateTask(ds, strings.ToLower(method[:1])+method[1:],
		func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, work(file) })
	return taskOf(method+"_Task", task.Run()), nil
}

func (b *bed) deleteDatastoreFile(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	name := body.(*types.DeleteDatastoreFile_Task).Name
	return onFiles("DeleteDatastoreFile", name, func(file string) types.BaseMethodFault {
		if _, err := os.Stat(file); err != nil {
			return &types.FileNotFound{FileFault: types.FileFault{File: name}}
		}
		if err := os.RemoveAll(file); err != nil {
			return &types.CannotDeleteFile{FileFault: types.FileFault{File: name}}
		}
		return nil
	})
}

func (b *bed) moveDatastoreFile(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.MoveDatastoreFile_Task)
	_, to, refused := located(r.DestinationName)
	if refused != nil {
		return nil, refused
	}
	return onFiles("MoveDatastoreFile", r.SourceName, func(file string) types.BaseMethodFault {
		if _, err := os.Stat(file); err != nil {
			return &types.FileNotFound{FileFault: types.FileFault{File: r.SourceName}}
		}
		if _, err := os.Stat(to); err == nil && (r.Force == nil || !*r.Force) {
			return &types.FileAlreadyExists{FileFault: types.FileFault{File: r.DestinationName}}
		}
		if err := os.Rename(file, to); err != nil {
			return &types.CannotAccessFile{FileFault: types.FileFault{File: r.SourceName}}
		}
		return nil
	})
}

// copyVirtualDisk copies all that a disk holds, with what is below it.
func (b *bed) copyVirtualDisk(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.CopyVirtualDisk_Task)
	_, to, refused := located(r.DestName)
	if refused != nil {
		return nil, refused
	}
	return onFiles("CopyVirtualDisk", r.SourceName, func(file string) types.BaseMethodFault {
		from, to := flatOf(file), flatOf(to)
		found, err := os.Stat(from)
		if err == nil {
			if err = copySparse(to, from); err == nil {
				err = describe(to, found.Size())
			}
		}
		if err != nil {
			return &types.FileFault{File: r.SourceName}
		}
		return nil
	})
}

func (b *bed) extendVirtualDisk(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.ExtendVirtualDisk_Task)
	return onFiles("ExtendVirtualDisk", r.Name, func(file string) types.BaseMethodFault {
		size := r.NewCapacityKb << 10
		if os.Truncate(flatOf(file), size) != nil || describe(flatOf(file), size) != nil {
			return &types.FileFault{File: r.Name}
		}
		return nil
	})
}

func flatOf(file string) string { return strings.TrimSuffix(file, ".vmdk") + "-flat.vmdk" }

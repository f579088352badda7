package main

import (
	"net/http"
	"reflect"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// fault is something that goes wrong on demand, the next Count times that Method is called (a SOAP
// name, "folder" or "vddk-open") after it was called Skip times.
type fault struct {
	Method string
	Fault  string // a fault type of vim
	Text   string // what its property or file says
	Count  int
	Skip   int
	Drop   bool    // the connection is cut instead of an answer
	After  bool    // the work is done before that
	Wait   float64 // seconds before it
}

func (b *bed) take(method string) *fault {
	b.Lock()
	defer b.Unlock()
	for _, f := range b.faults {
		if f.Method != method || f.Count == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			return nil
		}
		f.Count--
		return f
	}
	return nil
}

// happen waits, and cuts the connection off when that is the fault; before or after the work.
func (f *fault) happen(after bool) {
	if f == nil || f.After != after {
		return
	}
	time.Sleep(time.Duration(f.Wait * float64(time.Second)))
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
}

func (f *fault) vim() types.BaseMethodFault {
	kind, ok := types.TypeFunc()(f.Fault)
	if !ok {
		return &types.GenericVmConfigFault{Reason: f.Fault}
	}
	v := reflect.New(kind)
	for _, name := range []string{"InvalidProperty", "File", "Reason", "PrivilegeId"} {
		if field := v.Elem().FieldByName(name); field.IsValid() && field.Kind() == reflect.String {
			field.SetString(f.Text)
		}
	}
	if field := v.Elem().FieldByName("Task"); field.IsValid() { // a reference without a type is none
		field.Set(reflect.ValueOf(types.ManagedObjectReference{Type: "Task", Value: "task-0"}))
	}
	return v.Interface().(types.BaseMethodFault)
}

package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// rest is what one property collector has yet to answer.
type rest struct {
	objects []types.ObjectContent
	most    int32
}

// paged cuts an answer of the simulator, which always answers all, to as many objects as were
// asked for. Nothing when there is nothing to cut.
func (b *bed) paged(call *simulator.Method, answer *httptest.ResponseRecorder) interface{} {
	r, ok := call.Body.(*types.RetrievePropertiesEx)
	if !ok || r.Options.MaxObjects <= 0 {
		return nil
	}
	var whole struct {
		Body struct {
			Response types.RetrievePropertiesExResponse `xml:"RetrievePropertiesExResponse"`
		}
	}
	decoder := xml.NewDecoder(bytes.NewReader(answer.Body.Bytes()))
	decoder.TypeFunc = types.TypeFunc()
	if err := decoder.Decode(&whole); err != nil || whole.Body.Response.Returnval == nil {
		return nil
	}
	b.Lock()
	defer b.Unlock()
	return &types.RetrievePropertiesExResponse{
		Returnval: b.cut(rest{whole.Body.Response.Returnval.Objects, r.Options.MaxObjects})}
}

func (b *bed) continueRetrieve(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	token := body.(*types.ContinueRetrievePropertiesEx).Token
	left, ok := b.pages[token]
	if !ok {
		return nil, &types.InvalidArgument{InvalidProperty: "token"}
	}
	delete(b.pages, token)
	return &types.ContinueRetrievePropertiesExResponse{Returnval: *b.cut(left)}, nil
}

func (b *bed) cut(left rest) *types.RetrieveResult {
	if len(left.objects) <= int(left.most) {
		return &types.RetrieveResult{Objects: left.objects}
	}
	b.numbers++
	token := fmt.Sprint(b.numbers)
	b.pages[token] = rest{left.objects[left.most:], left.most}
	return &types.RetrieveResult{Token: token, Objects: left.objects[:left.most]}
}

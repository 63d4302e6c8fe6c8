// Package v1alpha1 has the types of a TracingPolicy that Tetragon's compiler of selectors asks for, by the names that
// Tetragon's own module gives them. That module cannot be fetched: it has no version of its own. Written from the
// published definition (CRD); what is not there is refused by the strict decoder.
package v1alpha1

// KProbeSpec is one hook of a policy.
type KProbeSpec struct {
	Call            string           `json:"call"`
	Syscall         bool             `json:"syscall"`
	Return          bool             `json:"return,omitempty"`
	ReturnArg       *KProbeArg       `json:"returnArg,omitempty"`
	ReturnArgAction string           `json:"returnArgAction,omitempty"`
	Message         string           `json:"message,omitempty"`
	Tags            []string         `json:"tags,omitempty"`
	Args            []KProbeArg      `json:"args,omitempty"`
	Data            []KProbeArg      `json:"data,omitempty"`
	Selectors       []KProbeSelector `json:"selectors,omitempty"`
	Ignore          *IgnoreSpec      `json:"ignore,omitempty"`
}

// IgnoreSpec says which failures are none.
type IgnoreSpec struct {
	CallNotFound bool `json:"callNotFound,omitempty"`
}

// KProbeArg is one argument that is reported.
type KProbeArg struct {
	Index        uint32 `json:"index"`
	Type         string `json:"type"`
	BTFType      string `json:"btfType,omitempty"`
	Label        string `json:"label,omitempty"`
	MaxData      bool   `json:"maxData,omitempty"`
	Resolve      string `json:"resolve,omitempty"`
	ReturnCopy   bool   `json:"returnCopy,omitempty"`
	SizeArgIndex uint32 `json:"sizeArgIndex,omitempty"`
	Source       string `json:"source,omitempty"`
}

// KProbeSelector is a filter in the kernel; all its parts must hold.
type KProbeSelector struct {
	Macros                 []string                   `json:"macros,omitempty"`
	MatchArgs              []ArgSelector              `json:"matchArgs,omitempty"`
	MatchData              []ArgSelector              `json:"matchData,omitempty"`
	MatchReturnArgs        []ArgSelector              `json:"matchReturnArgs,omitempty"`
	MatchActions           []ActionSelector           `json:"matchActions,omitempty"`
	MatchReturnActions     []ActionSelector           `json:"matchReturnActions,omitempty"`
	MatchBinaries          []BinarySelector           `json:"matchBinaries,omitempty"`
	MatchParentBinaries    []BinarySelector           `json:"matchParentBinaries,omitempty"`
	MatchPIDs              []PIDSelector              `json:"matchPIDs,omitempty"`
	MatchNamespaces        []NamespaceSelector        `json:"matchNamespaces,omitempty"`
	MatchNamespaceChanges  []NamespaceChangesSelector `json:"matchNamespaceChanges,omitempty"`
	MatchCapabilities      []CapabilitiesSelector     `json:"matchCapabilities,omitempty"`
	MatchCapabilityChanges []CapabilitiesSelector     `json:"matchCapabilityChanges,omitempty"`
}

// ArgSelector compares an argument.
type ArgSelector struct {
	Index    uint32   `json:"index"`
	Args     []uint32 `json:"args,omitempty"`
	Operator string   `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// ActionSelector is what is done with a match.
type ActionSelector struct {
	Action                       string   `json:"action"`
	ArgError                     int32    `json:"argError,omitempty"`
	ArgFd                        uint32   `json:"argFd,omitempty"`
	ArgFqdn                      string   `json:"argFqdn,omitempty"`
	ArgIndex                     uint32   `json:"argIndex,omitempty"`
	ArgName                      uint32   `json:"argName,omitempty"`
	ArgRegs                      []string `json:"argRegs,omitempty"`
	ArgSig                       uint32   `json:"argSig,omitempty"`
	ArgSock                      uint32   `json:"argSock,omitempty"`
	ArgUrl                       string   `json:"argUrl,omitempty"`
	ArgValue                     uint32   `json:"argValue,omitempty"`
	EnforcerNotifyActionArgIndex *uint32  `json:"-"`
	ImaHash                      bool     `json:"imaHash,omitempty"`
	KernelStackTrace             bool     `json:"kernelStackTrace,omitempty"`
	RateLimit                    string   `json:"rateLimit,omitempty"`
	RateLimitScope               string   `json:"rateLimitScope,omitempty"`
	UserStackTrace               bool     `json:"userStackTrace,omitempty"`
}

// BinarySelector compares the program's path.
type BinarySelector struct {
	Operator       string   `json:"operator"`
	Values         []string `json:"values"`
	FollowChildren bool     `json:"followChildren,omitempty"`
}

// PIDSelector compares process numbers.
type PIDSelector struct {
	Operator       string   `json:"operator"`
	Values         []uint32 `json:"values"`
	FollowForks    bool     `json:"followForks,omitempty"`
	IsNamespacePID bool     `json:"isNamespacePID,omitempty"`
}

// NamespaceSelector compares a namespace of the process.
type NamespaceSelector struct {
	Namespace string   `json:"namespace"`
	Operator  string   `json:"operator"`
	Values    []string `json:"values"`
}

// NamespaceChangesSelector compares what has become another namespace.
type NamespaceChangesSelector struct {
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

// CapabilitiesSelector compares capabilities of the process.
type CapabilitiesSelector struct {
	Type                  string   `json:"type"`
	Operator              string   `json:"operator"`
	Values                []string `json:"values"`
	IsNamespaceCapability bool     `json:"isNamespaceCapability,omitempty"`
}

// The other hooks: named by the compiler, of no use here.
type (
	TracepointSpec struct{ Selectors []KProbeSelector }
	UProbeSpec     struct{ Selectors []KProbeSelector }
	LsmHookSpec    struct{ Selectors []KProbeSelector }
	UsdtSpec       struct{ Selectors []KProbeSelector }
)

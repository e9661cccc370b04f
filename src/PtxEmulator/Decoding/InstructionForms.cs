using System.Collections.Frozen;

namespace Kernels.Emulation.Decoding;

/// <summary>
/// Every instruction form that the emulator executes: an opcode with its modifiers and types. The decoder refuses any other, and the conformance suite runs each one of them.
/// </summary>
/// <remarks>
/// A line is a pattern: <c>{a,b}</c> stands for either, a part followed by <c>?</c> may be missing. Modifiers that only advise the caches (<c>L1::…</c>, <c>L2::…</c>) are no part of a
/// form, and neither is the order in which modifiers are written, save that of mma's layouts.
/// </remarks>
internal static class InstructionForms
{
    private const string Compare = "{eq,ne,lt,le,gt,ge}";
    private const string FloatCompare = "{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}";
    private const string Bool = "{and,or,xor}?";
    private const string Integers = "{u16,u32,u64,s16,s32,s64}";
    private const string AllIntegers = "{u8,u16,u32,u64,s8,s16,s32,s64}";
    private const string Rounding = "{rn,rz,rm,rp}";
    private const string Integral = "{rni,rzi,rmi,rpi}";
    private const string Sixteen = "{f16,f16x2,bf16,bf16x2}";
    private const string Types = "{b8,b16,b32,b64,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64}";
    private const string Narrow = "{b8,b16,b32,u8,u16,u32,s8,s16,s32,f32}";

    /// <summary>One element, or a vector of up to 16 bytes.</summary>
    private const string Elements = $"{{{Types},v2.{Types},v4.{Narrow}}}";

    /// <summary>Vectors of 32 bytes, which only global memory has.</summary>
    private const string Octets = "{v8.{b32,u32,s32,f32},v4.{b64,u64,s64,f64}}";
    private const string Scope = "{cta,cluster,gpu,sys}";
    private const string Shared = "{shared,shared::cta}";
    private const string Semantics = "{relaxed,acquire,release,acq_rel}?";
    private const string Readable = "{global,shared,shared::cta,shared::cluster,local,const,param,param::entry,param::func}?";
    private const string Writable = "{global,shared,shared::cta,shared::cluster,local,param,param::func}?";
    private const string Atomics = "{global,shared,shared::cta,shared::cluster}?";

    private static readonly string[] Patterns =
    [
        // Integer arithmetic.
        $"{{add,sub}}.{Integers}", "{add,sub}.sat.s32", "{add,sub}.cc.{u32,s32,u64,s64}", "{addc,subc}.cc?.{u32,s32,u64,s64}",
        $"mul.{{lo,hi}}.{Integers}", "mul.wide.{u16,s16,u32,s32}", "mul24.lo.{u32,s32}",
        $"mad.lo.{Integers}", "mad.hi.{u32,s32,u64,s64}", "mad.wide.{u16,s16,u32,s32}",
        "mad.lo.cc.{u32,s32,u64,s64}", "mad.hi.cc.{u32,u64}", "madc.lo.cc?.{u32,s32,u64,s64}", "madc.hi.cc?.{u32,u64}",
        "sad.{u32,s32,u64,s64}", $"{{div,rem,min,max}}.{Integers}", "{abs,neg}.{s16,s32,s64}", "dp4a.{u32,s32}.{u32,s32}",

        // Bits.
        "{and,or,xor,not}.{pred,b16,b32,b64}", "cnot.{b16,b32,b64}", "lop3.b32", "shl.{b16,b32,b64}", "shr.{b16,b32,b64,u16,u32,u64,s16,s32,s64}", "shf.{l,r}.{wrap,clamp}.b32",
        "{popc,clz,brev}.{b32,b64}", "bfind.shiftamt?.{u32,s32,u64,s64}", "bfe.{u32,s32,u64,s64}", "bfi.{b32,b64}", "prmt.b32",

        // Floating point.
        $"{{add,sub,mul}}.{Rounding}?.ftz?.sat?.f32", $"{{add,sub,mul}}.{Rounding}?.f64", $"{{fma,mad}}.{Rounding}.ftz?.sat?.f32", $"{{fma,mad}}.{Rounding}.f64",
        "div.{approx,full}.ftz?.f32", $"{{div,rcp,sqrt}}.{Rounding}.ftz?.f32", $"{{div,rcp,sqrt}}.{Rounding}.f64",
        "{rcp,sqrt,rsqrt,sin,cos,lg2,ex2}.approx.ftz?.f32", "tanh.approx.f32", "rcp.approx.ftz.f64", "rsqrt.approx.ftz?.f64",
        "{neg,abs}.ftz?.f32", "{neg,abs}.f64", "copysign.{f32,f64}", "{min,max}.ftz?.NaN?.f32", "{min,max}.f64",
        "testp.{finite,infinite,number,notanumber,normal,subnormal}.{f32,f64}",
        "{add,sub,mul}.rn?.sat?.{f16,f16x2}", "{add,sub,mul}.rn?.{bf16,bf16x2}", "fma.rn.{sat,relu}?.{f16,f16x2}", "fma.rn.relu?.{bf16,bf16x2}",
        $"{{neg,abs}}.{Sixteen}", $"{{min,max}}.NaN?.{Sixteen}", "ex2.approx.{f16,f16x2}", "ex2.approx.ftz.{bf16,bf16x2}", $"tanh.approx.{Sixteen}",

        // Comparison and selection.
        $"setp.{Compare}.{Bool}.{Integers}", $"setp.{{lo,ls,hi,hs}}.{Bool}.{{u16,u32,u64}}", $"setp.{{eq,ne}}.{Bool}.{{b16,b32,b64}}",
        $"setp.{FloatCompare}.{Bool}.ftz?.f32", $"setp.{FloatCompare}.{Bool}.{{f64,f16,bf16,f16x2,bf16x2}}",
        $"set.{Compare}.{Bool}.{{u32,s32,f32}}.{Integers}", $"set.{{lo,ls,hi,hs}}.{Bool}.{{u32,s32,f32}}.{{u16,u32,u64}}", $"set.{{eq,ne}}.{Bool}.{{u32,s32,f32}}.{{b16,b32,b64}}",
        $"set.{FloatCompare}.{Bool}.ftz?.{{u32,s32,f32}}.f32", $"set.{FloatCompare}.{Bool}.{{u32,s32,f32}}.f64",
        $"set.{FloatCompare}.{Bool}.{{f16,u16,s16,u32,s32}}.f16", $"set.{FloatCompare}.{Bool}.{{bf16,u16,s16,u32,s32}}.bf16",
        $"set.{FloatCompare}.{Bool}.f16x2.f16x2", $"set.{FloatCompare}.{Bool}.bf16x2.bf16x2",
        "{selp,mov}.{b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64}", "mov.pred",

        // Conversion.
        $"cvt.sat?.{AllIntegers}.{AllIntegers}", $"cvt.{Rounding}.{{f16,bf16,f32,f64}}.{AllIntegers}",
        $"cvt.{Integral}.sat?.{AllIntegers}.{{f16,bf16,f32,f64}}", $"cvt.{Integral}.ftz.sat?.{AllIntegers}.f32",
        $"cvt.{Integral}.ftz?.sat?.f32.f32", $"cvt.{Integral}.sat?.f16.f16", $"cvt.{Integral}.sat?.f64.f64",
        "cvt.ftz?.sat?.f32.{f16,f32}", "cvt.ftz?.f32.bf16", "cvt.ftz?.sat?.f64.f32", "cvt.sat?.f64.{f16,f64}", "cvt.f64.bf16",
        $"cvt.{Rounding}.ftz?.sat?.f32.f64", $"cvt.{Rounding}.ftz?.sat?.f16.f32", $"cvt.{Rounding}.sat?.f16.f64", $"cvt.{Rounding}.bf16.{{f16,f32,f64}}", $"cvt.{Rounding}.f16.bf16",
        "cvt.{rn,rz}.relu.{f16,bf16}.f32", "cvt.rn.relu?.{f16x2,bf16x2}.f32", "cvt.rna.tf32.f32", "cvt.{rn,rz}.relu?.tf32.f32",

        // Memory.
        $"ld.weak?.{Readable}.{{ca,cg,cs,lu,cv}}?.{Elements}", $"ld.{{volatile,relaxed.{Scope},acquire.{Scope}}}.{{global,shared,shared::cta,shared::cluster,local}}?.{Elements}",
        $"ld.global.{{ca,cg,cs}}?.nc.{Elements}", $"ld.weak?.global.nc?.{Octets}", "ld.mmio.relaxed.sys.global." + Types, $"ldu.global?.{Elements}",
        $"st.weak?.{Writable}.{{wb,cg,cs,wt}}?.{Elements}", $"st.{{volatile,relaxed.{Scope},release.{Scope}}}.{{global,shared,shared::cta,shared::cluster,local}}?.{Elements}",
        $"st.weak?.global.{Octets}", "st.mmio.relaxed.sys.global." + Types,
        $"{{atom,red}}.{Semantics}.{Scope}?.{Atomics}.add.{{u32,s32,u64,f32,f64}}", $"{{atom,red}}.{Semantics}.{Scope}?.{Atomics}.add.noftz.{Sixteen}",
        $"{{atom,red}}.{Semantics}.{Scope}?.{Atomics}.{{min,max}}.{{u32,s32,u64,s64}}", $"{{atom,red}}.{Semantics}.{Scope}?.{Atomics}.{{inc,dec}}.u32",
        $"{{atom,red}}.{Semantics}.{Scope}?.{Atomics}.{{and,or,xor}}.{{b32,b64}}", $"atom.{Semantics}.{Scope}?.{Atomics}.exch.{{b32,b64}}", $"atom.{Semantics}.{Scope}?.{Atomics}.cas.{{b16,b32,b64}}",
        $"red.{{relaxed,release}}?.{Scope}?.global.add.{{v2,v4}}.f32", $"red.{{relaxed,release}}?.{Scope}?.global.add.noftz.{{v2,v4,v8}}.{{f16,bf16}}",
        $"red.{{relaxed,release}}?.{Scope}?.global.add.noftz.{{v2,v4}}.{{f16x2,bf16x2}}",
        "cvta.to?.{global,shared,shared::cta,shared::cluster,local,const,param}.u64", "isspacep.{global,shared,shared::cta,shared::cluster,local}",
        "membar.{cta,gl,sys}", $"fence.{{sc,acq_rel}}?.{Scope}", "fence.proxy.{alias,async,async.global,async.shared::cta,async.shared::cluster}", "fence.mbarrier_init.release.cluster",
        "prefetch.{global,local}?.{L1,L2}", "prefetchu.L1", "discard.global.L2",
        "createpolicy.{fractional,range}.b64", "createpolicy.range.global.b64", "applypriority.global?", "prefetch.global",

        // Asynchronous copies and memory barriers.
        $"cp.async.{{ca,cg}}.{Shared}.global", "cp.async.{commit_group,wait_group,wait_all}", $"cp.async.mbarrier.arrive.noinc?.{Shared}?.b64",
        $"mbarrier.{{init,inval}}.{Shared}?.b64", $"mbarrier.arrive.expect_tx?.release?.{{cta,cluster}}?.{Shared}?.b64", $"mbarrier.arrive.noComplete.release?.{{cta,cluster}}?.{Shared}?.b64",
        $"mbarrier.expect_tx.relaxed?.{{cta,cluster}}?.{Shared}?.b64", $"mbarrier.{{test_wait,try_wait}}.parity?.acquire?.{{cta,cluster}}?.{Shared}?.b64",

        // Warps and blocks.
        "shfl.sync.{up,down,bfly,idx}.b32", "vote.sync.{all,any,uni}.pred", "vote.sync.ballot.b32", "match.{any,all}.sync.{b32,b64}",
        "redux.sync.{add,min,max}.{u32,s32}", "redux.sync.{and,or,xor}.b32", "elect.sync", "activemask.b32",
        "bar.warp.sync", "bar.cta?.{sync,arrive}", "bar.cta?.red.popc.u32", "bar.cta?.red.{and,or}.pred",
        "barrier.cta?.{sync,arrive}.aligned?", "barrier.cta?.red.popc.aligned?.u32", "barrier.cta?.red.{and,or}.aligned?.pred",

        // Matrices.
        $"{{ldmatrix,stmatrix}}.sync.aligned.m8n8.{{x1,x2,x4}}.trans?.{Shared}?.b16",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16", "mma.sync.aligned.m16n8k16.row.col.{f16,f32}.f16.f16.{f16,f32}",
        "mma.sync.aligned.{m16n8k8,m16n8k16}.row.col.f32.bf16.bf16.f32", "mma.sync.aligned.{m16n8k4,m16n8k8}.row.col.f32.tf32.tf32.f32",
        "mma.sync.aligned.{m16n8k16,m16n8k32}.row.col.satfinite?.s32.{u8,s8}.{u8,s8}.s32",

        // Control.
        "bra.uni?", "brx.idx.uni?", "call.uni?", "ret.uni?", "exit", "trap", "brkpt", "nanosleep.u32", "pmevent.mask?",
        "griddepcontrol.{launch_dependents,wait}", "setmaxnreg.{inc,dec}.sync.aligned.u32",
    ];

    private static readonly Lazy<string[]> Written = new(() => [.. Patterns.SelectMany(Expand).Distinct()]);

    private static readonly Lazy<FrozenSet<string>> Keys = new(() => Written.Value.Select(Key).ToFrozenSet());

    /// <summary>Every form, with its modifiers in the order of PTX's documentation.</summary>
    internal static IReadOnlyList<string> All => Written.Value;

    /// <summary>Whether an opcode as written in a module is one of the forms.</summary>
    internal static bool Contains(string opcode) => Keys.Value.Contains(Key(opcode));

    /// <summary>The opcode without what only advises caches, its modifiers in alphabetical order and then its types in theirs.</summary>
    private static string Key(string opcode)
    {
        var parts = opcode.Split('.');
        var rest = parts.Skip(1).Where(part => !Opcode.IsCacheAdvice(part)).ToArray();
        // Only the layouts of mma mean something else in another order.
        if (parts[0] == "mma")
            return opcode;
        return string.Join('.', [parts[0], .. rest.Where(part => !Opcode.IsType(part)).Order(StringComparer.Ordinal), .. rest.Where(Opcode.IsType)]);
    }

    private static IEnumerable<string> Expand(string pattern)
    {
        var results = new List<string> { "" };
        for (var at = 0; at < pattern.Length;)
        {
            var end = EndOfPart(pattern, at);
            var optional = pattern[end - 1] == '?';
            var part = pattern[at..(optional ? end - 1 : end)];
            var choices = part[0] == '{' ? Alternatives(part[1..^1]) : [part];
            if (optional)
                choices = [.. choices, ""];
            results = [.. results.SelectMany(start => choices.Select(choice => choice.Length == 0 ? start : start.Length == 0 ? choice : $"{start}.{choice}"))];
            at = end + 1;
        }
        return results;
    }

    /// <summary>Where the part that begins here ends: at a dot outside of braces.</summary>
    private static int EndOfPart(string pattern, int at)
    {
        for (var depth = 0; at < pattern.Length && (depth > 0 || pattern[at] != '.'); at++)
            depth += pattern[at] == '{' ? 1 : pattern[at] == '}' ? -1 : 0;
        return at;
    }

    /// <summary>The alternatives between commas, each of which may be a pattern itself.</summary>
    private static List<string> Alternatives(string text)
    {
        var alternatives = new List<string>();
        int start = 0, depth = 0;
        for (var i = 0; i <= text.Length; i++)
        {
            if (i == text.Length || text[i] == ',' && depth == 0)
            {
                alternatives.AddRange(Expand(text[start..i]));
                start = i + 1;
            }
            else
            {
                depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
            }
        }
        return alternatives;
    }
}

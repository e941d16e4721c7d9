# Strings, hashes, regular expressions, sorting and closures in Perl. Run by bench/driver/workloads.py; the
# results are the same on every run. An argument says how many times.
use strict;
use warnings;

my $seed = 1;
sub number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8 }

for my $round (1 .. $ARGV[0] // 1) {
    my (%count, @lines);
    for my $i (1 .. 25000) {
        my $line = join ' ', map { 'w' . number() % 5000 } 1 .. 8;
        push @lines, $line;
        $count{$_}++ for split / /, $line;
    }
    my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    print scalar(@top), " $top[0] $count{$top[0]}\n";

    my %by_first;
    for my $line (@lines) {
        push @{ $by_first{$1} }, [ $line, length $line ] if $line =~ /^(w\d\d)/;
    }
    my $sum = 0;
    $sum += $_->[1] for map { @$_ } values %by_first;
    print scalar(keys %by_first), " $sum\n";

    my @makers = map { my $n = $_; sub { "<$n:" . shift() . ">" } } 1 .. 200;
    my $text = join '', map { $makers[ number() % 200 ]->($_) } 1 .. 40000;
    $text =~ s/<(\d+):(\d+)>/$2,/g;
    print length($text), "\n";
}
